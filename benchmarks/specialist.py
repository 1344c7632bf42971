"""A specialist's training: a U-Net on the pictures of one task, by the clock, in as many sittings as it takes."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import Row
from studies import precision_of

# isort: split
import torch
from torch import Tensor

from lavindit.data import EpisodeMaker, SourceConfig
from lavindit.data.mixture import EpisodeMixture
from lavindit.data.world import WORLD_VERSION
from lavindit.errors import LavinditError
from lavindit.files import new_file
from lavindit.report import current_commit
from lavindit.task import Task
from lavindit.training.ema import EMA, averaged_copy
from lavindit.training.optimizers import MuonAdamW
from lavindit.training.schedule import trapezoid
from lavindit.types import EpisodeBatch
from unet import UNet, UNetConfig, count_parameters, match_parameters

BATCH, CLIP_BATCH = 16, 1
WARMUP_STEPS, DECAY_SHARE, EMA_DECAY, CLIP_NORM = 50, 0.4, 0.995, 1.0
SAVE_EVERY_S = 60.0
RENDERED_TOGETHER = 64


@dataclass(frozen=True)
class Setup:
    """What a specialist is trained with.

    Attributes:
        parameters: How many its network shall have.
        source: The training scenes.
        minutes: Time of training.
        lr: Learning rate at its highest.
        seed: Of weights and episodes.
        device: Where.
        fold: Side of the squares of pixels that a network folds into channels.
    """

    parameters: int
    source: SourceConfig
    minutes: float
    lr: float
    seed: int
    device: torch.device
    fold: int = 4

    def network_config(self, task: Task) -> UNetConfig:
        """Size of a task's network.

        Raises:
            LavinditError: It cannot be had, or does not take pictures of this size.
        """
        inputs = 3 * (2 if task.input_frames > 1 else 1)
        config = match_parameters(self.parameters, inputs, task.restores, self.fold)
        if self.source.resolution % config.multiple:
            raise LavinditError(
                f"a U-Net with --fold {self.fold} takes multiples of {config.multiple} px, not "
                f"{self.source.resolution}: try --fold {self.fold // 2}"
            )
        return config

    def batches(self, task: Task) -> EpisodeMixture:
        """The training stream: queries alone."""
        maker = EpisodeMaker(task, "train", self.source)
        for first in range(0, len(maker.queries), RENDERED_TOGETHER):  # before the clock starts, for every task alike
            maker.queries[first]
        return EpisodeMixture({task.name: maker}, {}, BATCH, CLIP_BATCH, (0, 0), self.seed)


def frames_of(inputs: Tensor) -> Tensor:
    """Pictures [B, 3, T, H, W] as a network takes them: [B, 3, H, W], of clips [B T, 6, H, W], each with the next."""
    if inputs.shape[2] == 1:
        return inputs[:, :, 0]
    following = torch.cat([inputs[:, :, 1:], inputs[:, :, -1:]], 2)
    return torch.cat([inputs, following], 1).transpose(1, 2).flatten(0, 1)


def clip_of(frames: Tensor, count: int) -> Tensor:
    """A network's answers [B T, 3, H, W] as pictures [B, 3, T, H, W] of `count` frames."""
    return frames.unflatten(0, (-1, count)).transpose(1, 2)


def loss_of(network: UNet, batch: EpisodeBatch, device: torch.device) -> Tensor:
    """Mean of absolute and squared error over valid pixels."""
    inputs, targets = batch.inputs[:, -1].to(device), batch.targets[:, -1].to(device)
    valid = torch.stack([episode.query.valid for episode in batch.episodes]).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision_of(device) == "bf16-mixed"):
        found = network(frames_of(inputs)).float()
    errors = (clip_of(found, targets.shape[2]) - targets)[valid.expand_as(targets)]
    return errors.abs().mean() + errors.square().mean()


class Specialist:
    """A network in training, with all that is needed to go on.

    Args:
        task: Its task.
        setup: How it is trained.
        path: File of its state.

    Raises:
        LavinditError: The file that is there is of another training.
    """

    def __init__(self, task: Task, setup: Setup, path: Path) -> None:
        self.task, self.setup, self.path = task, setup, path
        self.config = setup.network_config(task)
        torch.manual_seed(setup.seed)
        self.network = UNet(self.config).to(setup.device, memory_format=torch.channels_last)  # pyright: ignore
        self.average = averaged_copy(self.network, lambda: UNet(self.config), lambda network: None).eval()
        self.optimizer = MuonAdamW(self.network.parameters(), lr=setup.lr, weight_decay=0.01)
        self.ema = EMA(self.network, self.average, EMA_DECAY)
        self.counts: dict[str, float] = {"steps": 0, "seconds": 0.0, "cpu_seconds": 0.0}
        self.commits: list[str | None] = []
        if path.exists():
            self._load()

    def train(self) -> Row:
        """Train until the time is used up; steps, minutes and parameters."""
        limit, batches, saved = 60 * self.setup.minutes, self.setup.batches(self.task), self.counts["seconds"]
        if self.counts["seconds"] < limit and current_commit() not in self.commits:
            self.commits.append(current_commit())
        while self.counts["seconds"] < limit:
            began, cpu = time.monotonic(), time.process_time()
            loss = self._step(batches[int(self.counts["steps"])], self.counts["seconds"] / limit)
            self.counts["steps"] += 1
            self.counts["seconds"] += time.monotonic() - began
            self.counts["cpu_seconds"] += time.process_time() - cpu
            if self.counts["seconds"] - saved > SAVE_EVERY_S or self.counts["seconds"] >= limit:
                saved = self.counts["seconds"]
                self._save()
                said = f"step {self.counts['steps']:.0f}, {saved / 60:.1f} minutes, loss {loss:.4f}"
                print(f"{self.task.name}: {said}", file=sys.stderr, flush=True)
        return {
            "steps": int(self.counts["steps"]), "minutes": self.counts["seconds"] / 60,
            "cpu_minutes": self.counts["cpu_seconds"] / 60, "parameters": count_parameters(self.network),
            "widths": self.config.widths, "residual": self.config.residual, "train_commits": self.commits,
        }  # fmt: skip

    @torch.no_grad()
    def answer(self, batch: EpisodeBatch) -> Tensor:
        """Pictures [B, 3, T', H, W]."""
        found = self.average(frames_of(batch.inputs[:, -1].to(self.setup.device)))
        return clip_of(found, batch.targets.shape[3]).clamp(0, 1)

    def _step(self, batch: EpisodeBatch, progress: float) -> float:
        rate = self.setup.lr * trapezoid(progress, int(self.counts["steps"]), WARMUP_STEPS, DECAY_SHARE)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(self.network, batch, self.setup.device)
        if not loss.isfinite():
            raise LavinditError(f"the loss of {self.task.name} is not finite; lower --lr and remove {self.path}")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()
        return float(loss.detach())

    def _save(self) -> None:
        parts = {name: getattr(self, name).state_dict() for name in ("network", "average", "optimizer")}
        parts |= {"counts": self.counts, "updates": self.ema.updates, "commits": self.commits, "about": self._about()}
        with new_file(self.path) as temporary:
            torch.save(parts, temporary)

    def _load(self) -> None:
        try:
            state = torch.load(self.path, map_location=self.setup.device, weights_only=True)
            about = dict(state["about"])
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise LavinditError(f"cannot read {self.path} ({reason}); remove it to train anew") from error
        for name, value in self._about().items():
            if about.get(name) != value:
                raise LavinditError(
                    f"{self.path} was trained with {name} {about.get(name)}, asked is {value}: name another --run"
                )
        for name in ("network", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.counts, self.ema.updates, self.commits = state["counts"], state["updates"], state["commits"]

    def _about(self) -> dict[str, Any]:
        """What a state must agree in."""
        config, source, setup = self.config, self.setup.source, self.setup
        return {
            "widths": list(config.widths), "fold": config.fold, "minutes": setup.minutes, "lr": setup.lr,
            "seed": setup.seed, "resolution": source.resolution, "scenes": source.scenes,
            "photographs": source.photos is not None, "task's version": self.task.version,
            "version of the world": WORLD_VERSION,
        }  # fmt: skip
