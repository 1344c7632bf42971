"""Make `import torchvision` work beside a torch it was not compiled for.

A CPU build of torch beside the registry's torchvision wheel fails at `import torchvision` ("operator
torchvision::nms does not exist"), and torchmetrics, lpips, torch-fidelity and lightning fail with it. Their
pure-Python parts are all we use, and those only need the two operator schemas to be known. They are declared
here, before the first such import, only where the compiled operators cannot be loaded.
"""

import importlib.util
from pathlib import Path

import torch

_library: torch.library.Library | None = None


def declare_missing_operators() -> None:
    """Declare the schemas of `torchvision::nms` and `torchvision::qnms` where torchvision's binary does not load."""
    global _library
    spec = importlib.util.find_spec("torchvision")
    if _library is not None or spec is None or spec.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return
    for binary in Path(spec.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(binary)
            return
        except OSError:
            continue
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
