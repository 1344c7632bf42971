"""lavindit: in-context vision models. Show a few input-target pairs and a query; get the answer.

engine = lavindit.load("nano")
prediction = engine.apply("depth_estimation", "photo.jpg", pairs=4)
prediction.save("depth.png")
"""

from typing import TYPE_CHECKING, Any

from lavindit._torchvision import declare_missing_operators

declare_missing_operators()

if TYPE_CHECKING:
    from lavindit.errors import LavinditError
    from lavindit.inference import Engine, load
    from lavindit.types import Prediction

__version__ = "0.1.0"
__all__ = ["Engine", "LavinditError", "Prediction", "load"]

_HOMES = {
    "Engine": "lavindit.inference",
    "load": "lavindit.inference",
    "LavinditError": "lavindit.errors",
    "Prediction": "lavindit.types",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `lavindit --help` answers at once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lavindit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
