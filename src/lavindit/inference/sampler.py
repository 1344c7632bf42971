"""From a batch of episodes to answers: encode, integrate the flow, decode.

Legend: B batch, K pairs, C latent channels, T latent frames of an input or target, Tc frames of the context.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.flow import SOLVERS, Grid, guide, seeded_noise, solve, time_grid
from lavindit.models import STVAE, JDiT
from lavindit.models.jdit import query_layout
from lavindit.types import EpisodeBatch, LatentEpisode

Posterior = Literal["mean", "sample"]


@dataclass(frozen=True)
class SamplingConfig:
    """How an answer is sampled.

    Attributes:
        steps: Steps of the solver.
        solver: "euler", "heun" or "midpoint".
        guidance: Guidance scale; 1 runs the conditional branch alone.
        shift: Time shift of the grid.
        seed: Seed of the noise, and of the posterior samples.
        grid: "uniform", or "official": the released grid, slow at the noise; its 20 points are 19 steps.
        posterior: What pairs and query are encoded to: the "mean" of the VAE's posterior, or a "sample" of it.
    """

    steps: int = 20
    solver: str = "euler"
    guidance: float = 1.0
    shift: float = 1.0
    seed: int = 0
    grid: Grid = "uniform"
    posterior: Posterior = "mean"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise LavinditError(f"steps must be at least 1, got {self.steps}")
        if self.solver not in SOLVERS:
            raise LavinditError(f"unknown solver {self.solver!r}; there are {', '.join(SOLVERS)}")
        for name, value, known in (("grid", self.grid, Grid), ("posterior", self.posterior, Posterior)):
            if value not in get_args(known):
                raise LavinditError(f"unknown {name} {value!r}; there are {', '.join(get_args(known))}")


def encode_batch(
    vae: STVAE, batch: EpisodeBatch, posterior: Posterior = "mean", seed: int = 0, chunk: int | None = None
) -> LatentEpisode:
    """Encode all pictures of a batch, each image or clip on its own.

    Args:
        vae: The VAE.
        batch: The episodes.
        posterior: "mean", or "sample": each picture's own draw, seeded by its episode's sample id, its place there
            and `seed`, whatever the batch.
        seed: Seed of the samples.
        chunk: Pictures a pass of the encoder; None: all at once.
    """
    parts = {"input": batch.inputs, "target": batch.targets}
    noises: dict[str, Tensor] = {}
    if posterior == "sample":
        for name, part in parts.items():
            noises[name] = posterior_noise(batch.sample_ids, name, part.shape[1], vae.latent_shape(part), seed)
    if batch.inputs.shape == batch.targets.shape:
        noise = torch.stack(list(noises.values())) if noises else None
        inputs, targets = vae.to_latent(torch.stack(list(parts.values())), noise, chunk).unbind(0)
    else:
        inputs, targets = (vae.to_latent(part, noises.get(name), chunk) for name, part in parts.items())
    return LatentEpisode(inputs, targets)


def posterior_noise(sample_ids: Sequence[str], name: str, places: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Standard normal noise [B, places, *shape] of the posterior samples of each episode's inputs or targets.

    Args:
        sample_ids: Of the B episodes.
        name: "input" or "target".
        places: Pairs and query, K + 1.
        shape: (C, t, h, w) of a latent.
        seed: Seed.
    """
    names = [f"{sample_id}/{name}/{place}" for sample_id in sample_ids for place in range(places)]
    return seeded_noise(names, shape, seed).unflatten(0, (len(sample_ids), places))


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
    """Answers in latent space [B, C, T, h, w] to the queries of a batch; the query's own target is not read.

    The network is asked in the type of its weights; the state of the solver stays as the latents are.
    """
    context, query = join_context(latent), latent.inputs[:, -1]
    null = null_context(model, query)
    shape = tuple(latent.targets.shape[2:])
    noise = seeded_noise(sample_ids, shape, config.seed).to(query)
    mode, frames = model.config.context_attention, query.shape[2]
    dtype = next(model.parameters()).dtype

    def field(x: Tensor, t: Tensor) -> Tensor:
        times = t.expand(len(x))

        def velocity(clean: Tensor) -> Tensor:
            layout = query_layout(mode, clean.shape[2], x.shape[2], query_frames=frames)
            return model(x.to(dtype), times, clean.to(dtype), layout).to(x.dtype)

        return guide(velocity(context), lambda: velocity(null), config.guidance)

    return solve(field, noise, time_grid(config.grid, config.steps, config.shift), config.solver)


@torch.no_grad()
def answer_batch(
    vae: STVAE, model: JDiT, batch: EpisodeBatch, config: SamplingConfig, chunk: int | None = None
) -> Tensor:
    """Answers to a batch as pictures [B, 3, T, H, W]; `chunk` pictures a pass of the VAE, None: all at once."""
    latent = encode_batch(vae, batch, config.posterior, config.seed, chunk)
    return vae.to_pictures(sample_latents(model, latent, batch.sample_ids, config), chunk)
