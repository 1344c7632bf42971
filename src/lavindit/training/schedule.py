"""Learning rate over a run, and runs that end by the clock."""

import math
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


def trapezoid(progress: float, step: int, warmup_steps: int, decay_share: float) -> float:
    """Factor on the learning rate: linear warm-up, constant, then a half cosine to zero.

    Args:
        progress: Share of the run that is done, in [0, 1].
        step: Optimizer steps that are done.
        warmup_steps: Steps of the warm-up.
        decay_share: Share of the run, at its end, over which the rate falls to zero; 0 keeps it constant.
    """
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    if decay_share <= 0 or progress <= 1 - decay_share:
        return warm
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 1 + decay_share) / decay_share)))


class TimeBudget(Callback):
    """Ends training after a time, counted over all sittings of a run.

    The learning rate follows whichever is further, steps or time, so that a slow machine still ends its decay.

    Args:
        minutes: Time of training; None: no limit, steps alone count.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self.minutes = minutes
        self._before = 0.0
        self._started: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds of training so far, earlier sittings included."""
        return self._before + (time.monotonic() - self._started if self._started is not None else 0.0)

    @property
    def progress(self) -> float:
        """Share of the time that is used up; 0 without a limit."""
        return self.elapsed_s / (60 * self.minutes) if self.minutes else 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a budget that earlier sittings used up ends the run at once."""
        self._started = time.monotonic()
        trainer.should_stop = trainer.should_stop or self.progress >= 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop when the time is used up, on all processes at once."""
        if self.minutes:
            trainer.should_stop = trainer.strategy.reduce_boolean_decision(self.progress >= 1, all=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._before, self._started = self.elapsed_s, None

    def state_dict(self) -> dict[str, Any]:
        """Time so far."""
        return {"elapsed_s": self.elapsed_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the time of an earlier sitting."""
        self._before = float(state_dict["elapsed_s"])
