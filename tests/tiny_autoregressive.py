"""What the tests of the autoregressive baseline share: its modules, a tiny tokenizer, pictures."""

import importlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from conftest import TINY_VAE

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = ("answers", "data", "latency", "model", "store", "tokenizer", "train")


def import_baseline(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The package's modules."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return SimpleNamespace(**{name: importlib.import_module(f"autoregressive.{name}") for name in MODULES})


def make_tokenizer(ar: SimpleNamespace):
    """Of the nano VAE's layout."""
    torch.manual_seed(0)
    vae = replace(TINY_VAE, patch=4, conv="2+1d", linear_shortcut=True)
    return ar.tokenizer.Tokenizer(ar.tokenizer.TokenizerConfig(vae=vae)).eval()
