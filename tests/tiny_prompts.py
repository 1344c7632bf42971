"""What the tests of prompts share: pictures, a folder of pairs, engines in bfloat16."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lavindit.inference import Engine
from lavindit.pictures import save_picture
from lavindit.types import Prediction

MODES = ["prefix", "causal"]


def picture(seed: int, height: int = 40, width: int = 40) -> Tensor:
    coarse = torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (1, height, width)[1:], mode="nearest")


def in_bfloat16(engine: Engine) -> Engine:
    for parameter in (*engine.vae.parameters(), *engine.jdit.parameters()):
        parameter.data = parameter.data.bfloat16()
    return engine


def write_pairs(folder: Path, width: int = 40) -> Path:
    """Four pictures and their negatives."""
    for number in range(4):
        save_picture(picture(number, 40, width), folder / f"{number}_input.png")
        save_picture(1 - picture(number, 40, width), folder / f"{number}_target.png")
    return folder


def image(found: Any) -> Tensor:
    assert isinstance(found, Prediction)
    return found.image
