"""What the tests of prompts share: tiny engines of each mode, pictures, a folder of pairs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conftest import TINY_JDIT, make_tiny_jdit, make_tiny_vae
from lavindit.inference import Engine
from lavindit.pictures import save_picture
from lavindit.types import Prediction

MODES = ["prefix", "causal"]
INFO = {"resolution": 32, "sampling": {"steps": 2}}


def picture(seed: int, height: int = 40, width: int = 40) -> Tensor:
    coarse = torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (1, height, width)[1:], mode="nearest")


def make_engine(mode: str, info: dict[str, Any] = INFO) -> Engine:
    return Engine(make_tiny_vae(), make_tiny_jdit(replace(TINY_JDIT, context_attention=mode)), info)


def in_bfloat16(engine: Engine) -> Engine:
    for parameter in (*engine.vae.parameters(), *engine.jdit.parameters()):
        parameter.data = parameter.data.bfloat16()
    return engine


def write_pairs(folder: Path) -> Path:
    """Four pictures and their negatives."""
    for number in range(4):
        save_picture(picture(number), folder / f"{number}_input.png")
        save_picture(1 - picture(number), folder / f"{number}_target.png")
    return folder


def image(found: Any) -> Tensor:
    assert isinstance(found, Prediction)
    return found.image
