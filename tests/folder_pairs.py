"""What the tests of folders of pairs share: pictures, pairs, `task.yaml`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from lavindit.clips import save_clip
from lavindit.pictures import save_array, save_picture
from lavindit.task import FolderTask
from lavindit.types import Pair

SIZE = 32
PANOPTIC = {"name": "panoptic", "stuff": [1, 2], "things": [5], "instances": 3}


def random_picture(seed: int, frames: int = 1, height: int = SIZE, width: int = SIZE) -> Tensor:
    """8-bit colours [3, T, H, W] in blocks of 8 px."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.rand(3, frames, -(-height // 8), -(-width // 8), generator=generator)
    picture = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :height, :width]
    return (picture * 255).round() / 255


def write_half(path: Path, picture: Tensor) -> None:
    """A PNG file, or a folder of frames."""
    if picture.shape[1] == 1:
        save_picture(picture, path.with_name(path.name + ".png"))
    else:
        save_clip(picture, path)


def write_pairs(folder: Path, names: str = "abcd", frames: tuple[int, int] = (1, 1), **config: Any) -> Path:
    """Pairs of random pictures, and a `task.yaml` of the config if there is any."""
    for number, name in enumerate(names):
        write_half(folder / f"{name}_input", random_picture(number, frames[0]))
        write_half(folder / f"{name}_target", 1 - random_picture(number, frames[1]))
    if config:
        (folder / "task.yaml").write_text(yaml.safe_dump(config))
    return folder


def pair_of(folder: Path, index: int = 0, size: int = SIZE, split: str = "train") -> Pair:
    task, generator = FolderTask(folder), torch.Generator().manual_seed(3)
    scene = task.make_source(split, size)[index]
    return task.make_pair(scene, task.make_codec([scene], generator), generator)


def with_target(folder: Path, native: Tensor | np.ndarray, side: int = SIZE, **config: Any) -> Path:
    """A folder of one pair whose target is an array."""
    write_half(folder / "a_input", random_picture(0, 1, side, side))
    save_array(torch.as_tensor(native), folder / "a_target.npy")
    (folder / "task.yaml").write_text(yaml.safe_dump(config))
    return folder


def write_config(folder: Path, **config: Any) -> Path:
    (folder / "task.yaml").write_text(yaml.safe_dump(config))
    return folder
