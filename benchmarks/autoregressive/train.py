"""Training by the clock, for both networks: optimizer, schedule and average as ours, in a loop of its own.

A run is a folder: `last.ckpt` with all that a sitting goes on from, `model` with averaged weights at the end, and
`minutes_M` with those at minute M for each that was asked for. The time counts over all sittings, the making of batches
included, as it does for ours. A snapshot before the end is of a learning rate that has not fallen yet, so a comparison
at equal time wants a run of that time.
"""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lavindit.cli.train import cpu_precision
from lavindit.errors import LavinditError
from lavindit.files import new_file
from lavindit.flow.noise import seed_from
from lavindit.report import current_commit, describe_machine
from lavindit.training.ema import EMA
from lavindit.training.optimizers import MuonAdamW
from lavindit.training.schedule import trapezoid

LAST = "last.ckpt"
SAY_EVERY_S = 10.0
FREE = ("snapshots", "store_every")  # what may change from sitting to sitting
Export = Callable[[nn.Module, Path, dict[str, Any]], None]
"""Writes a network with averaged weights to a folder, with what there is to say of it."""


@dataclass(frozen=True)
class Plan:
    """How long and how a network trains.

    Attributes:
        minutes: Time budget; None: steps alone count.
        max_steps: Most steps.
        lr: Learning rate of `MuonAdamW`.
        weight_decay: Its decoupled weight decay.
        warmup_steps: Steps of linear warm-up.
        decay_share: Share of the run over which the rate falls to zero.
        ema_decay: Decay of the weight average.
        clip: Largest norm of a gradient.
        snapshots: Minutes at which the averaged weights are kept.
        store_every: Minutes between two checkpoints.
        seed: Seed of the first weights.
    """

    minutes: float | None
    max_steps: int = 200_000
    lr: float = 1e-2
    weight_decay: float = 0.01
    warmup_steps: int = 50
    decay_share: float = 0.4
    ema_decay: float = 0.999
    clip: float = 1.0
    snapshots: tuple[float, ...] = ()
    store_every: float = 2.0
    seed: int = 0

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done: of the steps or of the time, whichever is further."""
        return max(step / self.max_steps, seconds / 60 / self.minutes if self.minutes else 0.0)


class Run:
    """A network in training.

    Args:
        network: With its first weights.
        average: Another of the same structure; takes the average.
        plan: How it trains.
        folder: Of the run.
        identity: What two sittings of a run must agree on, besides the plan.

    Raises:
        LavinditError: The folder holds the run of something else, or a damaged checkpoint.
    """

    def __init__(
        self, network: nn.Module, average: nn.Module, plan: Plan, folder: Path, identity: Mapping[str, Any]
    ) -> None:
        self.network, self.plan, self.folder = network, plan, folder
        self.average = average.requires_grad_(False)
        self.average.load_state_dict(network.state_dict())
        self.identity = dict(identity) | {key: value for key, value in asdict(plan).items() if key not in FREE}
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.trained, self.optimizer = trained, MuonAdamW(trained, lr=plan.lr, weight_decay=plan.weight_decay)
        self.ema = EMA(network, average, plan.ema_decay)
        self.step, self.seconds, self.taken = 0, 0.0, [0.0]
        self._resume()

    def train(self, loss_of: Callable[[int], Tensor], export: Export) -> dict[str, Any]:
        """Train until the budget is spent, and export.

        Args:
            loss_of: The loss of a step by its number.
            export: Writes the model.

        Returns:
            What there is to say of the training.

        Raises:
            LavinditError: The loss is not finite.
        """
        self.network.train()
        self.average.eval()
        began, before = time.monotonic(), self.seconds
        stored = said = began
        loss = torch.zeros(())
        try:
            while self.plan.progress(self.step, self.seconds) < 1:
                loss = self._step(loss_of)
                now = time.monotonic()
                self.seconds = before + now - began
                if now - said >= SAY_EVERY_S:
                    said = now
                    print(f"step {self.step} loss {float(loss):.4f}  {self.seconds / 60:.1f} min", file=sys.stderr)
                self._keep_snapshot(export)
                if now - stored >= 60 * self.plan.store_every:
                    stored = now
                    self._store()
        except KeyboardInterrupt:
            kept = (self.folder / LAST).is_file()
            left = f"{self.folder / LAST} is kept; the same command goes on" if kept else "no checkpoint yet"
            print(f"\ninterrupted at step {self.step}; {left}", file=sys.stderr)
            raise
        self._store()
        export(self.average, self.folder / "model", self.said)
        return self.said

    @property
    def said(self) -> dict[str, Any]:
        """Steps, minutes and options so far, and what it ran on."""
        made = {"commit": current_commit(), "machine": describe_machine(), "threads": torch.get_num_threads()}
        return {"steps": self.step, "minutes": self.seconds / 60, "trained": self.identity} | made

    def _step(self, loss_of: Callable[[int], Tensor]) -> Tensor:
        rate = self.plan.lr * trapezoid(
            self.plan.progress(self.step, self.seconds), self.step, self.plan.warmup_steps, self.plan.decay_share
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with autocast():
            loss = loss_of(self.step)
        if not bool(torch.isfinite(loss)):
            raise LavinditError(f"the loss of step {self.step} is not finite; lower --lr, {LAST} is kept")
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, self.plan.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()
        self.step += 1
        return loss.detach()

    def _keep_snapshot(self, export: Export) -> None:
        """The averaged weights, where the minute of a snapshot has just gone by."""
        due = [minute for minute in self.plan.snapshots if max(self.taken) < minute <= self.seconds / 60]
        for minute in due:
            export(self.average, self.folder / f"minutes_{minute:g}", self.said)
            self.taken.append(minute)

    def _store(self) -> None:
        content = {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.ema.updates,
            "step": self.step,
            "seconds": self.seconds,
            "taken": self.taken,
        }
        with new_file(self.folder / LAST) as temporary:
            torch.save(content, temporary)

    def _resume(self) -> None:
        path = self.folder / LAST
        if not path.is_file():
            return
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            other = [key for key, value in self.identity.items() if found["identity"].get(key) != value]
            if other:
                raise LavinditError(f"{path} is of another run (its {other[0]} differs); name another --run")
            self.network.load_state_dict(found["network"])
            self.average.load_state_dict(found["average"])
            self.optimizer.load_state_dict(found["optimizer"])
            self.ema.updates, self.step, self.seconds = found["updates"], found["step"], found["seconds"]
            self.taken = found["taken"]
        except LavinditError:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise LavinditError(f"cannot read {path}: {reason}; delete it to begin anew") from error


def autocast() -> AbstractContextManager[Any]:
    """bf16 where the CPU has instructions for it, as the trainer of ours does; else nothing."""
    native = cpu_precision() == "bf16-mixed"
    return torch.autocast("cpu", torch.bfloat16) if native else nullcontext()


def seed_weights(seed: int) -> None:
    """Seed what networks begin with."""
    torch.manual_seed(seed_from("autoregressive", seed))
