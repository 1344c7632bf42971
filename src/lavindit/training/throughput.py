"""How fast training runs: samples, tokens and FLOPs a second, and the share of the device's peak."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


@dataclass(frozen=True)
class Accelerator:
    """A device by its data sheet.

    Attributes:
        tflops: Dense bf16 peak with float32 accumulation.
        memory_gb: Memory in 10^9 bytes.
    """

    tflops: float
    memory_gb: float


Mark = float | torch.cuda.Event
# The longest name that is part of a device's own name is taken.
ACCELERATORS = {
    "a100": Accelerator(312, 80),
    "a10": Accelerator(125, 24),
    "b200": Accelerator(2250, 192),
    "h100": Accelerator(989, 80),
    "h100 nvl": Accelerator(835, 94),
    "h100 pcie": Accelerator(756, 80),
    "h200": Accelerator(989, 141),
    "l4": Accelerator(121, 24),
    "l40s": Accelerator(362, 48),
    "rtx 4090": Accelerator(165, 24),
    "v100": Accelerator(125, 32),
}


def peak_of(name: str) -> float | None:
    """Dense bf16 TFLOP/s of a device by the name that torch gives it; None where it is not known."""
    words = f" {name.lower().replace('-', ' ')} "
    found = [key for key in ACCELERATORS if f" {key} " in words]
    return ACCELERATORS[max(found, key=len)].tflops if found else None


class Throughput(Callback):
    """Logs the speed of training under `speed/`.

    Seconds a step are the median over a window, from the end of one batch to the end of the next, so waiting for data
    counts. An interval with a validation or a checkpoint in it does not. The first step, which may compile, is logged
    apart. Tokens and FLOPs come from the module's `step_cost(batch)`, where it has one: (samples, tokens, model FLOPs)
    of this process's batch.

    Args:
        peak_tflops: Peak of one device; None: by its name. Without a peak there is no MFU.
        every_n_steps: Length of the window, in batches of training.
    """

    def __init__(self, peak_tflops: float | None = None, every_n_steps: int = 50) -> None:
        self.peak_tflops, self.every_n_steps = peak_tflops, every_n_steps
        self._clean = False  # whether nothing but training happened since the last mark
        self._marks: list[tuple[Mark, Mark]] = []
        self._costs: list[tuple[float, ...]] = []
        self._last: Mark = 0.0
        self._first = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the peak, start the clock."""
        if self.peak_tflops is None and pl_module.device.type == "cuda":
            self.peak_tflops = peak_of(torch.cuda.get_device_name(pl_module.device))
        self._marks, self._costs, self._first, self._clean = [], [], True, True
        self._last = _mark(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note a step; at the end of the window, log."""
        interval, clean, self._clean = (self._last, _mark(pl_module)), self._clean, True
        self._last = interval[1]
        if not clean:
            return
        if self._first:
            self._first = False
            self._log(trainer, {"speed/first_step_s": _seconds(*interval)})
            return
        self._marks.append(interval)
        self._costs.append(_cost(pl_module, batch))
        if len(self._marks) >= self.every_n_steps:
            self._log(trainer, self._figures(trainer, pl_module))
            self._marks, self._costs = [], []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not count the interval with a validation in it."""
        self._clean = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Do not count the interval with a checkpoint in it."""
        self._clean = False

    def _figures(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        step_s = statistics.median(_seconds(*interval) for interval in self._marks)
        means = [statistics.fmean(values) for values in zip(*self._costs, strict=True)]
        figures = {"speed/step_s": step_s, "speed/samples_per_s": means[0] * trainer.world_size / step_s}
        if len(means) == 3:
            figures["speed/tokens_per_s"] = means[1] * trainer.world_size / step_s
            figures["speed/tflops_per_device"] = means[2] / step_s / 1e12
            if self.peak_tflops:
                figures["speed/mfu"] = figures["speed/tflops_per_device"] / self.peak_tflops
        if pl_module.device.type == "cuda":
            figures["speed/peak_memory_gib"] = torch.cuda.max_memory_allocated(pl_module.device) / 2**30
        return figures

    @staticmethod
    def _log(trainer: Trainer, figures: dict[str, float]) -> None:
        """To the loggers at once; what a module logs waits for the next log step."""
        for logger in trainer.loggers:  # they write on the first process alone
            logger.log_metrics(figures, step=trainer.global_step)


def _mark(pl_module: LightningModule) -> Mark:
    """Now, on the device's clock: a host that waited for its device at every step would slow training down."""
    if pl_module.device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds(start: Mark, end: Mark) -> float:
    if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        end.synchronize()
        return start.elapsed_time(end) / 1e3
    assert isinstance(start, float)
    assert isinstance(end, float)
    return end - start


def _cost(pl_module: LightningModule, batch: Any) -> tuple[float, ...]:
    step_cost = getattr(pl_module, "step_cost", None)
    return tuple(step_cost(batch)) if step_cost is not None else (_samples(batch),)


def _samples(batch: Any) -> int:
    """Samples of a batch: its length, or that of the first tensor of a tuple or list."""
    return len(batch[0]) if isinstance(batch, tuple | list) else len(batch)
