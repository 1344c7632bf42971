"""The file that `lavindit tasks new` writes: a task that works, to be changed into another."""

import keyword
import re
from pathlib import Path

from lavindit.errors import LavinditError
from lavindit.files import write_atomically
from lavindit.task import all_tasks

TASK = '''"""{title}: TELL WHAT IT IS. As it stands: how far each colour is from gray."""

from collections.abc import Sequence

import torch

from lavindit.codecs import Codec, MaskCodec
from lavindit.metrics import RestorationMetric
from lavindit.task import Column, Task
from lavindit.types import Pair, Scene


class {title}(Task):
    """How far the colour of every pixel is from gray: black for gray, white for pure colours."""

    # The key of the registry, and the name of this file.
    name = "{name}"
    # Raise it when the same answers would score differently.
    version = 1
    summary = "How far the colour of every pixel is from gray: black for gray, white for pure colours."
    modality = "{modality}"
    # Fields of lavindit.types.Scene that make_pair reads besides rgb, e.g. frozenset({{"depth_m"}}).
    requires = frozenset()
    # Keys of make_metric's result with their units; exactly one is the headline.
    columns = (Column("mse", "1", "min", headline=True), Column("psnr", "dB", "max"))
    protocol = "Truth: largest minus smallest of R, G and B. Scored on [0, 1] over the whole picture."

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """Native values as pictures, and back; one codec for all pairs of an episode. Others: lavindit.codecs."""
        return MaskCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Input, target, truth in native units and the mask of valid pixels; {frames}."""
        native = scene.rgb.amax(0, keepdim=True) - scene.rgb.amin(0, keepdim=True)
        # Draw all that is random from the generator, and mark pixels whose truth is unknown as invalid.
        valid = torch.ones_like(native, dtype=torch.bool)
        return Pair(scene.rgb, codec.encode(native, valid), native, valid)

    def make_metric(self) -> RestorationMetric:
        """What scores answers in native units. Others: lavindit.metrics."""
        return RestorationMetric(("mse", "psnr"))
'''

TEST = '''"""{name} keeps every promise of a task."""

from pathlib import Path

from lavindit.testing import check_task


def test_it_keeps_every_promise() -> None:
    check_task(Path(__file__).with_name("{name}.py"))
'''


def write_scaffold(name: str, folder: Path, video: bool = False) -> tuple[Path, Path]:
    """Write `name.py` and `test_name.py` into a folder, which is made if need be.

    Args:
        name: Name of the task.
        folder: Where.
        video: Whether it is a task of clips.

    Returns:
        The two files.

    Raises:
        LavinditError: The name is no identifier in lower_snake_case or is taken, or a file exists or cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise LavinditError(f"{name!r} cannot name a task; write a Python identifier in lower_snake_case: my_task")
    if name in all_tasks():
        raise LavinditError(f"there is a task {name} already; choose another name")
    plugin, test = folder / f"{name}.py", folder / f"test_{name}.py"
    for path in (plugin, test):
        if path.exists():
            raise LavinditError(f"{path} exists; choose another name or --out")
    words = {
        "name": name,
        "title": "".join(part.capitalize() for part in name.split("_")),
        "modality": "video" if video else "image",
        "frames": "clips are [3, 13, H, W]" if video else "an image is [3, 1, H, W]",
    }
    write_atomically(plugin, TASK.format(**words).encode())
    write_atomically(test, TEST.format(**words).encode())
    return plugin, test
