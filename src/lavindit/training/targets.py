"""What a training pass of the J-DiT is asked for: which targets are noised, how often, and what its answers cost.

Legend: B batch, K pairs, C latent channels, T latent frames of a target, Tc of a context, R times of an episode.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.flow import interpolate, logit_normal_times, shift_times, velocity
from lavindit.inference.sampler import join_context, null_context
from lavindit.losses import flow_matching_loss
from lavindit.models import JDiT, JDiTConfig
from lavindit.models.jdit import ContextAttention, Layout, every_pair_layout, query_layout
from lavindit.models.jdit.cost import forward_cost, training_flops
from lavindit.types import LatentEpisode

Which = Literal["query", "every_pair"]


@dataclass(frozen=True)
class Drops:
    """Which episodes of a batch lose their pairs.

    Attributes:
        dropped: One flag an episode.
        with_pairs: Whether any process has an episode with its pairs in this step.
        without: Whether any process has one without.
    """

    dropped: tuple[bool, ...]
    with_pairs: bool = True
    without: bool = False


@dataclass(frozen=True)
class NoisyTargets:
    """The noisy targets of one pass over a context, and their loss.

    Attributes:
        which: "query": the query's. "every_pair": that of every pair, too.
        copies: Noise levels of each; all of them read the same context, and none sees another.
        l1_weight: Weight of the L1 term.
        time_shift: Shift of the times.
    """

    which: Which = "query"
    copies: int = 1
    l1_weight: float = 0.0
    time_shift: float = 1.0

    def check(self, mode: ContextAttention) -> None:
        """Refuse what a context attention cannot train.

        Raises:
            LavinditError: It cannot.
        """
        if self.which not in get_args(Which):
            raise LavinditError(f"unknown targets {self.which!r}; there are {', '.join(get_args(Which))}")
        if self.copies < 1:
            raise LavinditError(f"noisy_copies must be at least 1, got {self.copies}")
        if self.which == "every_pair" and mode != "causal":
            raise LavinditError("targets: every_pair needs network.context_attention: causal")
        if self.copies > 1 and mode == "joint":
            raise LavinditError(
                f"noisy_copies: {self.copies} needs network.context_attention: prefix or causal; "
                "a joint context sees the noise, so it serves one target"
            )

    def losses(self, model: JDiT, latent: LatentEpisode, seeds: Sequence[int], drops: Drops | None = None) -> Tensor:
        """Loss of each episode [B], with noise and times from its seed; drops of None keep all pairs."""
        if self.which == "every_pair":
            return self._every_pair(model, latent, seeds)
        query, target = latent.inputs[:, -1], latent.targets[:, -1]
        frames, query_frames = target.shape[2], query.shape[2]
        drops = drops or Drops((False,) * len(seeds))
        losses = target.new_zeros(len(target))
        target = target.repeat(1, 1, self.copies, 1, 1)
        noise, t = self.draw(seeds, target, self.copies)
        if self.copies > 1:
            t = t.repeat_interleave(frames, dim=1)
        branches = ((join_context(latent), False, drops.with_pairs), (null_context(model, query), True, drops.without))
        for context, dropped, wanted in branches:
            if wanted:
                own = [place for place, lost in enumerate(drops.dropped) if lost == dropped]
                # Where only other processes have episodes of a branch, this one keeps them company with weight 0:
                # sharded networks gather their weights together.
                rows = torch.tensor(own or [0], device=target.device)
                mode = model.config.context_attention
                layout = query_layout(mode, context.shape[2], frames, query_frames, self.copies)
                found = self._loss(model, context[rows], target[rows], noise[rows], t[rows], layout)
                losses = losses.index_add(0, rows, found * bool(own))
        return losses

    def _every_pair(self, model: JDiT, latent: LatentEpisode, seeds: Sequence[int]) -> Tensor:
        """Mean loss [B] over noisy copies of every pair's target and the query's; each has a time of its own."""
        groups, frames = latent.targets.shape[1], latent.targets.shape[3]
        target = latent.targets.transpose(1, 2).flatten(2, 3).repeat(1, 1, self.copies, 1, 1)
        noise, t = self.draw(seeds, target, groups * self.copies)
        layout = every_pair_layout(groups - 1, latent.inputs.shape[3], frames, self.copies)
        return self._loss(model, join_context(latent), target, noise, t.repeat_interleave(frames, dim=1), layout)

    def _loss(self, model: JDiT, context: Tensor, target: Tensor, noise: Tensor, t: Tensor, layout: Layout) -> Tensor:
        """Mean loss [B] over all targets of a pass.

        Args:
            model: The network.
            context: Clean frames [B, C, Tc, h, w].
            target: All targets, one after the other [B, C, T, h, w].
            noise: Same shape.
            t: Times [B, R], R = T, or R = 1 for all frames.
            layout: Who sees whom.
        """
        found = model(interpolate(noise, target, t[:, None, :, None, None]), t, context, layout)
        by_time = [x.unflatten(2, (t.shape[1], -1)).movedim(2, 1) for x in (found, velocity(noise, target))]
        return flow_matching_loss(by_time[0], by_time[1], self.l1_weight).mean(1)

    def draw(self, seeds: Sequence[int], target: Tensor, times: int) -> tuple[Tensor, Tensor]:
        """Noise like `target` [B, C, T, h, w] and times [B, `times`], each row from its own seed."""
        generator = torch.Generator(target.device)
        rows = []
        for seed in seeds:
            generator.manual_seed(seed)
            noise = torch.randn(target.shape[1:], generator=generator, device=target.device)
            rows.append((noise, logit_normal_times((times,), device=target.device, generator=generator)))
        noise, t = (torch.stack(part) for part in zip(*rows, strict=True))
        return noise, shift_times(t, self.time_shift)

    def cost(
        self, config: JDiTConfig, pairs: int, input_frames: int, target_frames: int, tokens_per_frame: int, drop: float
    ) -> tuple[float, float]:
        """Tokens and model FLOPs of a training step on one episode, as a mean over episodes.

        Args:
            config: Of the network.
            pairs: K.
            input_frames: Latent frames of an input.
            target_frames: Latent frames of a target.
            tokens_per_frame: Tokens of a latent frame.
            drop: Share of the episodes that lose their pairs.
        """
        context = pairs * (input_frames + target_frames) + input_frames
        if self.which == "every_pair":
            branches = [(1.0, every_pair_layout(pairs, input_frames, target_frames, self.copies))]
        else:
            null = input_frames if config.context_attention == "causal" else 1 + input_frames
            branches = [
                (share, query_layout(config.context_attention, length, target_frames, input_frames, self.copies))
                for share, length in ((1 - drop, context), (drop, null))
            ]
        tokens = flops = 0.0
        for share, layout in branches:
            frames = len(layout.target)
            times = 1 if self.which == "query" and self.copies == 1 else frames
            tokens += share * (len(layout.context) + frames) * tokens_per_frame
            flops += share * training_flops(forward_cost(config, layout, tokens_per_frame, target_times=times))[0]
        return tokens, flops
