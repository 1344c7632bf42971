"""The sizes of the paper, as the shipped configs describe them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lavindit.models import STVAE, JDiT, JDiTConfig, STVAEConfig
from lavindit.models.jdit.cost import count_parameters

MODELS = Path(__file__).parents[2] / "configs" / "model"


def network_of(name: str) -> dict[str, Any]:
    options = yaml.safe_load((MODELS / name).read_text())["model"]["init_args"]["network"]
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


@pytest.mark.parametrize(("size", "billions"), [("0.1b", 0.101), ("1.0b", 0.935), ("3.4b", 3.399)])
def test_transformer_is_as_large_as_the_papers(size: str, billions: float) -> None:
    config = JDiTConfig(**network_of(f"jdit_{size}.yaml"))
    for built in (config, replace(config, full_last_block=True)):
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in JDiT(built).parameters())
        assert parameters == sum(count_parameters(built).values())
    assert round(parameters / 1e9, 3) == billions
    assert config.context_attention == "joint"


def test_vae_is_as_large_as_the_papers() -> None:
    config = STVAEConfig(**network_of("stvae_paper.yaml"))
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in STVAE(config).parameters())
    assert round(parameters / 1e6, 1) == 215.6
