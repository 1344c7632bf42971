"""From a batch of episodes to answers: encode, integrate the flow, decode.

Legend: B batch, K pairs, C latent channels, T latent frames of an input or target, Tc frames of the context.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.flow import SOLVERS, guide, seeded_noise, solve, uniform_grid
from lavindit.models import STVAE, JDiT
from lavindit.models.jdit import query_layout
from lavindit.types import EpisodeBatch, LatentEpisode


@dataclass(frozen=True)
class SamplingConfig:
    """How an answer is sampled.

    Attributes:
        steps: Steps of the solver.
        solver: "euler", "heun" or "midpoint".
        guidance: Guidance scale; 1 runs the conditional branch alone.
        shift: Time shift of the grid.
        seed: Seed of the noise.
    """

    steps: int = 20
    solver: str = "euler"
    guidance: float = 1.0
    shift: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise LavinditError(f"steps must be at least 1, got {self.steps}")
        if self.solver not in SOLVERS:
            raise LavinditError(f"unknown solver {self.solver!r}; there are {', '.join(SOLVERS)}")


def encode_batch(vae: STVAE, batch: EpisodeBatch) -> LatentEpisode:
    """Encode all pictures of a batch, each image or clip on its own."""
    if batch.inputs.shape == batch.targets.shape:
        inputs, targets = vae.to_latent(torch.stack([batch.inputs, batch.targets])).unbind(0)
        return LatentEpisode(inputs, targets)
    return LatentEpisode(vae.to_latent(batch.inputs), vae.to_latent(batch.targets))


def join_context(latent: LatentEpisode) -> Tensor:
    """The clean frames of an episode [B, C, Tc, h, w]: input, target, input, target, ..., query."""
    pairs = latent.inputs.shape[1] - 1
    frames = [part[:, k] for k in range(pairs) for part in (latent.inputs, latent.targets)]
    return torch.cat([*frames, latent.inputs[:, pairs]], dim=2)


def null_context(model: JDiT, query: Tensor) -> Tensor:
    """What is left of a context [B, C, Tc, h, w] without its pairs.

    A frame of zeros and the query [B, C, T, h, w], as in the release; in the causal mode the query alone, which
    its training meets as the context of length 0.
    """
    if model.config.context_attention == "causal":
        return query
    return torch.cat([torch.zeros_like(query[:, :, :1]), query], dim=2)


@torch.no_grad()
def sample_latents(model: JDiT, latent: LatentEpisode, sample_ids: Sequence[str], config: SamplingConfig) -> Tensor:
    """Answers in latent space [B, C, T, h, w] to the queries of a batch; the query's own target is not read."""
    context, query = join_context(latent), latent.inputs[:, -1]
    null = null_context(model, query)
    shape = tuple(latent.targets.shape[2:])
    noise = seeded_noise(sample_ids, shape, config.seed).to(query)
    mode, frames = model.config.context_attention, query.shape[2]

    def field(x: Tensor, t: Tensor) -> Tensor:
        times = t.expand(len(x))

        def velocity(clean: Tensor) -> Tensor:
            layout = query_layout(mode, clean.shape[2], x.shape[2], query_frames=frames)
            return model(x, times, clean, layout).to(x.dtype)

        return guide(velocity(context), lambda: velocity(null), config.guidance)

    return solve(field, noise, uniform_grid(config.steps, config.shift), config.solver)


@torch.no_grad()
def answer_batch(vae: STVAE, model: JDiT, batch: EpisodeBatch, config: SamplingConfig) -> Tensor:
    """Answers to a batch as pictures [B, 3, T, H, W]."""
    return vae.to_pictures(sample_latents(model, encode_batch(vae, batch), batch.sample_ids, config))
