from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lavindit.training import throughput
from lavindit.training.throughput import Throughput, peak_of


class Plain(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Counting(Plain):
    def step_cost(self, batch: Tensor) -> tuple[int, int, float]:
        return len(batch), 10 * len(batch), 4e12


class Clock:
    """A clock of a second a step that a test can push."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ticking = Clock()
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=ticking))
    return ticking


def run(tmp_path: Path, module: Plain, callback: Throughput, **options: Any) -> list[dict[str, str]]:
    """The lines of a training's log."""
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = Trainer(
        accelerator="cpu",
        logger=logger,
        callbacks=[callback, *options.pop("callbacks", [])],
        max_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=options.pop("enable_checkpointing", False),
        **options,
    )
    loader = DataLoader(torch.randn(24, 4), batch_size=2)  # pyright: ignore[reportArgumentType]
    trainer.fit(module, loader, loader if options.get("val_check_interval") else None)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    return [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]


def column(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row.get(name)]


def test_figures_of_a_run(tmp_path: Path, clock: Clock) -> None:
    rows = run(tmp_path, Counting(), Throughput(peak_tflops=8, every_n_steps=5))
    assert column(rows, "speed/first_step_s") == [1]
    assert column(rows, "speed/step_s") == [1, 1]
    assert column(rows, "speed/samples_per_s") == [2, 2]
    assert column(rows, "speed/tokens_per_s") == [20, 20]
    assert column(rows, "speed/tflops_per_device") == [4, 4]
    assert column(rows, "speed/mfu") == [0.5, 0.5]
    assert column(rows, "step") == [0, 5, 10] or column(rows, "step") == [1, 6, 11]


def test_without_costs_or_a_peak_there_are_samples_alone(tmp_path: Path, clock: Clock) -> None:
    rows = run(tmp_path, Plain(), Throughput(every_n_steps=4))
    assert column(rows, "speed/samples_per_s") == [2, 2]
    assert not {"speed/tokens_per_s", "speed/mfu", "speed/peak_memory_gib"} & set(rows[0])
    rows = run(tmp_path / "counting", Counting(), Throughput(every_n_steps=4))
    assert column(rows, "speed/tokens_per_s") == [20, 20]
    assert "speed/mfu" not in rows[0]  # a CPU has no peak in the table


def test_validation_and_checkpoints_are_not_training(tmp_path: Path, clock: Clock) -> None:
    class Slow(Counting):
        def on_validation_end(self) -> None:
            clock.now += 100

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            clock.now += 100

    saving = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=3)
    rows = run(
        tmp_path,
        Slow(),
        Throughput(every_n_steps=1),
        callbacks=[saving],
        enable_checkpointing=True,
        val_check_interval=2,
        num_sanity_val_steps=1,
    )
    seconds = column(rows, "speed/step_s")
    assert seconds == [1] * len(seconds)
    assert 3 <= len(seconds) < 11


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA B200", 2250),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_peaks_by_name(name: str, tflops: float | None) -> None:
    assert peak_of(name) == tflops
