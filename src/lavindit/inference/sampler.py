"""From a batch of episodes to answers: encode, integrate the flow, decode.

Legend: B batch, K pairs, C latent channels, T latent frames of an input or target, Tc frames of the context.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.flow import SOLVERS, Field, Grid, check_times, guide, seeded_noise, solve, time_grid
from lavindit.inference.latent_cache import LatentCache
from lavindit.models import STVAE, JDiT
from lavindit.models.jdit import KVCache, query_layout
from lavindit.task import give_back_detail
from lavindit.types import EpisodeBatch, LatentEpisode

Posterior = Literal["mean", "sample"]
Start = Literal["noise", "zeros"]
PIXELS_A_PASS = 2**20  # of the VAE: four pictures at 512 px, about 2 GB in the released one


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
        times: The times themselves, `steps` + 1 from 0 to 1, in place of grid and shift.
        start: What stands at t = 0: seeded "noise", or "zeros", its mean, where one-step training has begun with it.
        detail: Whether answers to tasks that keep detail get back what the VAE loses of their query.
    """

    steps: int = 20
    solver: str = "euler"
    guidance: float = 1.0
    shift: float = 1.0
    seed: int = 0
    grid: Grid = "uniform"
    posterior: Posterior = "mean"
    times: tuple[float, ...] | None = None
    start: Start = "noise"
    detail: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise LavinditError(f"steps must be at least 1, got {self.steps}")
        if not math.isfinite(self.guidance):
            raise LavinditError(f"guidance must be a finite number, got {self.guidance}")
        if self.solver not in SOLVERS:
            raise LavinditError(f"unknown solver {self.solver!r}; there are {', '.join(SOLVERS)}")
        for name, known in (("grid", Grid), ("posterior", Posterior), ("start", Start)):
            value = getattr(self, name)
            if value not in get_args(known):
                raise LavinditError(f"unknown {name} {value!r}; there are {', '.join(get_args(known))}")
        if not 0 < self.shift < math.inf:
            raise LavinditError(f"shift must be a number above 0, got {self.shift}")
        if self.times is not None:
            object.__setattr__(self, "times", tuple(self.times))  # a config.json has a list
            check_times(self.times)
            if len(self.times) != self.steps + 1:
                raise LavinditError(f"{len(self.times)} times are {len(self.times) - 1} steps, not {self.steps}")

    @property
    def points(self) -> Tensor:
        """The times that the solver steps through [steps + 1]."""
        return time_grid(self.grid, self.steps, self.shift) if self.times is None else torch.tensor(self.times)


def pictures_a_pass(*parts: Tensor) -> int:
    """Pictures or clips that the VAE takes in one pass, of tensors [B, K, 3, T, H, W]: as many as memory allows."""
    return max(1, PIXELS_A_PASS // max(part.shape[3:].numel() for part in parts))


def encode_batch(
    vae: STVAE,
    batch: EpisodeBatch,
    posterior: Posterior = "mean",
    seed: int = 0,
    chunk: int | None = None,
    cache: LatentCache | None = None,
) -> LatentEpisode:
    """Encode all pictures of a batch, each image or clip on its own.

    Args:
        vae: The VAE.
        batch: The episodes.
        posterior: "mean", or "sample": each picture's own draw, seeded by its episode's sample id, its place there
            and `seed`, whatever the batch.
        seed: Seed of the samples.
        chunk: Pictures a pass of the encoder; None: all at once.
        cache: Latents of pictures that came before, and for those that come now; means alone are kept there.
    """
    parts = {"input": batch.inputs, "target": batch.targets}
    if cache is not None and posterior == "mean":
        return LatentEpisode(*(cache.to_latent(vae, part, chunk) for part in parts.values()))
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


def join_pairs(latent: LatentEpisode, count: int) -> Tensor:
    """The clean frames of the first `count` pairs [B, C, Tp, h, w]: input, target, input, target, ..."""
    return torch.cat([part[:, k] for k in range(count) for part in (latent.inputs, latent.targets)], dim=2)


def join_context(latent: LatentEpisode) -> Tensor:
    """The clean frames of an episode [B, C, Tc, h, w]: input, target, input, target, ..., query."""
    pairs = latent.inputs.shape[1] - 1
    query = latent.inputs[:, pairs]
    return torch.cat([join_pairs(latent, pairs), query], dim=2) if pairs else query


def null_context(model: JDiT, query: Tensor) -> Tensor:
    """What is left of a context [B, C, Tc, h, w] without its pairs.

    A frame of zeros and the query [B, C, T, h, w], as in the release; in the causal mode the query alone, which
    its training meets as the context of length 0.
    """
    if model.config.context_attention == "causal":
        return query
    return torch.cat([query.new_zeros(*query.shape[:2], 1, *query.shape[3:]), query], dim=2)


@dataclass(frozen=True, eq=False)
class ReadPairs:
    """Pairs that a model has read, for any number of queries.

    Attributes:
        pairs: Of their clean frames; batch 1 where all queries share them.
        null: Of what stands in their place in the branch without them; None where nothing does.
    """

    pairs: KVCache
    null: KVCache | None = None

    @property
    def bytes(self) -> int:
        """Memory."""
        return self.pairs.bytes + (self.null.bytes if self.null is not None else 0)


def read_pairs(model: JDiT, pairs: Tensor) -> ReadPairs:
    """Read pairs [B, C, Tp, h, w] once, in the modes whose context does not see the noise."""
    nothing = null_context(model, pairs[:1, :, :0])
    return ReadPairs(model.read(pairs), model.read(nothing) if nothing.shape[2] else None)


def can_read_once(model: JDiT) -> bool:
    """Whether the context is blind to noise and time, so that it need not be computed anew in every step."""
    return model.config.context_attention != "joint"


@torch.no_grad()
def sample_latents(model: JDiT, latent: LatentEpisode, sample_ids: Sequence[str], config: SamplingConfig) -> Tensor:
    """Answers in latent space [B, C, T, h, w] to the queries of a batch; the query's own target is not read."""
    field = velocity_field(model, latent, config.guidance)
    return solve(field, start_of(latent, sample_ids, config), config.points, config.solver)


@torch.no_grad()
def velocity_field(model: JDiT, latent: LatentEpisode, guidance: float = 1.0) -> Field:
    """v(x, t) of the answers to the queries of a batch; what can be read once is read here, for any number of times."""
    if can_read_once(model):
        shown = read_pairs(model, join_pairs(latent, latent.inputs.shape[1] - 1))
        return _guided(model, guidance, lambda null: _answer_from(model, shown, latent.inputs[:, -1], null))
    return _guided(model, guidance, lambda null: _compute_anew(model, latent, null))


def start_of(latent: LatentEpisode, sample_ids: Sequence[str], config: SamplingConfig) -> Tensor:
    """What the answers to a batch begin with [B, C, T, h, w]."""
    return _start(latent.inputs[:, -1], latent.targets.shape[3], sample_ids, config)


@torch.no_grad()
def sample_queries(
    model: JDiT, shown: ReadPairs, query: Tensor, frames: int, sample_ids: Sequence[str], config: SamplingConfig
) -> Tensor:
    """Answers in latent space [B, C, `frames`, h, w] to queries [B, C, T, h, w], after pairs that were read before."""
    field = _guided(model, config.guidance, lambda null: _answer_from(model, shown, query, null))
    return solve(field, _start(query, frames, sample_ids, config), config.points, config.solver)


def _start(query: Tensor, frames: int, sample_ids: Sequence[str], config: SamplingConfig) -> Tensor:
    shape = (query.shape[1], frames, *query.shape[3:])
    if config.start == "zeros":
        return query.new_zeros(len(sample_ids), *shape)
    return seeded_noise(sample_ids, shape, config.seed).to(query)


def _guided(model: JDiT, guidance: float, branch: Callable[[bool], Field]) -> Field:
    """The velocity of the branches with pairs and, where guidance asks for it, without.

    The network is asked in the type of its weights; the state of the solver stays as the latents are.
    """
    dtype = next(model.parameters()).dtype
    fields = [branch(null) for null in ((False,) if guidance == 1 else (False, True))]

    def field(x: Tensor, t: Tensor) -> Tensor:
        shown, *null = (lambda part=part: part(x.to(dtype), t.expand(len(x))).to(x.dtype) for part in fields)
        return guide(shown(), null[0], guidance) if null else shown()

    return field


def _answer_from(model: JDiT, shown: ReadPairs, query: Tensor, null: bool) -> Field:
    """The velocity after what was read; the query is read here, once."""
    before = ([] if shown.null is None else [shown.null]) if null else [shown.pairs]
    past = [*before, model.read(query, before)]
    return lambda x, t: model.answer(x, t, past, query)


def _compute_anew(model: JDiT, latent: LatentEpisode, null: bool) -> Field:
    """The velocity of a model whose context sees the noise."""
    query = latent.inputs[:, -1]
    context = (null_context(model, query) if null else join_context(latent)).to(next(model.parameters()).dtype)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        layout = query_layout(model.config.context_attention, context.shape[2], x.shape[2], query.shape[2])
        return model(x, t, context, layout)

    return velocity


@torch.no_grad()
def answer_batch(
    vae: STVAE,
    model: JDiT,
    batch: EpisodeBatch,
    config: SamplingConfig,
    chunk: int | None = None,
    cache: LatentCache | None = None,
    keeps_detail: bool = False,
) -> Tensor:
    """Answers to a batch as pictures [B, 3, T, H, W].

    Args:
        vae: The VAE.
        model: The transformer.
        batch: Episodes.
        config: How to sample.
        chunk: Pictures a pass of the VAE; None: all at once.
        cache: Latents of pictures that came before (`encode_batch`).
        keeps_detail: As their task says (`Task.keeps_detail`).
    """
    latent = encode_batch(vae, batch, config.posterior, config.seed, chunk, cache)
    answer = vae.to_pictures(sample_latents(model, latent, batch.sample_ids, config), chunk)
    if keeps_detail and config.detail:
        answer = give_back_detail(answer, batch.inputs[:, -1], vae.to_pictures(latent.inputs[:, -1], chunk))
    return answer


@torch.no_grad()
def answer_queries(
    vae: STVAE,
    model: JDiT,
    shown: ReadPairs,
    batch: EpisodeBatch,
    config: SamplingConfig,
    chunk: int | None = None,
    keeps_detail: bool = False,
) -> Tensor:
    """As `answer_batch`, after pairs that were read before; the batch has none of its own."""
    noise = None
    if config.posterior == "sample":
        noise = posterior_noise(batch.sample_ids, "input", 1, vae.latent_shape(batch.inputs), config.seed)
    query = vae.to_latent(batch.inputs, noise, chunk)[:, 0]
    frames = vae.latent_shape(batch.targets)[1]
    answer = vae.to_pictures(sample_queries(model, shown, query, frames, batch.sample_ids, config), chunk)
    if keeps_detail and config.detail:
        answer = give_back_detail(answer, batch.inputs[:, -1], vae.to_pictures(query, chunk))
    return answer
