"""The ways of computing an answer that `latency.py` compares: their networks, calls and FLOPs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lavindit  # noqa: F401  (first: it repairs torchvision)

# isort: split
import torch
import yaml
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from latency_clock import Call
from lavindit.inference.sampler import ReadPairs, null_context, read_pairs
from lavindit.models import STVAE, JDiT, JDiTConfig, STVAEConfig
from lavindit.models.jdit import ContextAttention, KVCache, query_layout
from lavindit.models.jdit.cost import answer_cost, forward_cost, read_cost
from released_step import make_model

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "model"
READ_ONCE: tuple[ContextAttention, ...] = ("prefix", "causal")
GUIDANCE = 1.5  # of the released inference

# What a query takes of the transformer: calls once, and calls in every step.
WAYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "released": ((), ("released forward",)),
    "released, guidance 1.5": ((), ("released forward", "released null forward")),
    "joint": ((), ("joint forward",)),
    "prefix": ((), ("prefix forward",)),
    "causal": ((), ("causal forward",)),
    "prefix, compiled prompt": (("prefix read query",), ("prefix answer",)),
    "causal, compiled prompt": (("causal read query",), ("causal answer",)),
    "prefix, compiled prompt, guidance 1.5": (
        ("prefix read query", "prefix null read query"),
        ("prefix answer", "prefix null answer"),
    ),
    "causal, compiled prompt, guidance 1.5": (
        ("causal read query", "causal null read query"),
        ("causal answer", "causal null answer"),
    ),
}


def read_network(name: str) -> dict[str, Any]:
    """`network` of a model config, lists as tuples."""
    options = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]["init_args"]["network"]
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def make_networks(size: str, device: str) -> dict[str, JDiT]:
    """One set of random weights as a joint, a prefix and a causal network; the last block's unread half included."""
    config = JDiTConfig(**read_network(f"jdit_{size}") | {"full_last_block": True, "context_attention": "joint"})
    joint = make_model(config).to(device)
    return {"joint": joint} | {mode: share_weights(joint, mode) for mode in READ_ONCE}


def share_weights(model: JDiT, mode: ContextAttention) -> JDiT:
    """Another network of a mode, on the same tensors."""
    with torch.device("meta"):
        network = JDiT(replace(model.config, context_attention=mode))
    network.load_state_dict(model.state_dict(), assign=True)
    return network.eval()


def make_vae(device: str) -> STVAE:
    """The nano VAE with random weights."""
    torch.manual_seed(0)
    return STVAE(STVAEConfig(**read_network("stvae_nano"))).eval().to(device)


def vae_flops(vae: STVAE, px: int) -> dict[str, int]:
    """Of encoding and of decoding one picture."""
    picture = torch.rand(1, 3, 1, px, px, device=next(vae.parameters()).device)
    with FlopCounterMode(display=False) as encoding:
        latent = vae.to_latent(picture)
    with FlopCounterMode(display=False) as decoding:
        vae.to_pictures(latent)
    return {"encode": encoding.get_total_flops(), "decode": decoding.get_total_flops()}


def released(model: JDiT, noisy: Tensor, t: Tensor, context: Tensor) -> Tensor:
    """A forward pass that computes the last block's context half, which nothing reads."""
    last = model.blocks[-1].context
    last.readable = True  # type: ignore[union-attr]
    try:
        return model(noisy, t, context)
    finally:
        last.readable = False  # type: ignore[union-attr]


@dataclass(frozen=True, eq=False)
class Episode:
    """Latents of an episode of one query.

    Attributes:
        pairs: Clean frames of the pairs [1, C, 2 K, h, w].
        query: [B, C, 1, h, w].
        noisy: [B, C, 1, h, w].
        t: [B].
    """

    pairs: Tensor
    query: Tensor
    noisy: Tensor
    t: Tensor

    @property
    def context(self) -> Tensor:
        """Clean frames [1, C, 2 K + 1, h, w]."""
        return torch.cat([self.pairs, self.query], dim=2)


def make_episode(pairs: int, px: int, device: str, batch: int = 1) -> Episode:
    """Standard normal latents, as many as K pairs and a batch of queries to them have."""
    generator, side = torch.Generator().manual_seed(pairs), px // 8
    shapes = ((1, 2 * pairs), (batch, 1), (batch, 1))
    clean, query, noisy = (torch.randn(b, 16, f, side, side, generator=generator).to(device) for b, f in shapes)
    return Episode(clean, query, noisy, torch.full((batch,), 0.5, device=device))


def make_prompt(model: JDiT, episode: Episode) -> tuple[ReadPairs, dict[str, list[KVCache]]]:
    """The pairs as they were read, and what an answer reads: with them, and without."""
    shown = read_pairs(model, episode.pairs)
    stretches = {"": [shown.pairs], " null": [] if shown.null is None else [shown.null]}
    return shown, {name: [*before, model.read(episode.query, before)] for name, before in stretches.items()}


def make_calls(
    networks: dict[str, JDiT], episode: Episode, prompts: dict[str, dict[str, list[KVCache]]]
) -> dict[str, Call]:
    """Every call that a way is made of, and the reading of the pairs.

    Args:
        networks: By mode.
        episode: Of one query.
        prompts: By mode, of `make_prompt`.
    """
    joint, noisy, t = networks["joint"], episode.noisy, episode.t
    null = null_context(joint, episode.query)
    calls: dict[str, Call] = {
        "released forward": lambda: released(joint, noisy, t, episode.context),
        "released null forward": lambda: released(joint, noisy, t, null),
    }
    for mode, model in networks.items():
        calls[f"{mode} forward"] = lambda model=model: model(noisy, t, episode.context)
    for mode, stretches in prompts.items():
        model = networks[mode]
        calls[f"{mode} read pairs"] = lambda model=model: model.read(episode.pairs)
        for name, past in stretches.items():
            before = past[:-1]
            calls[f"{mode}{name} read query"] = lambda model=model, b=before: model.read(episode.query, b)
            calls[f"{mode}{name} answer"] = lambda model=model, past=past: model.answer(noisy, t, past)
    return calls


def call_flops(config: JDiTConfig, pairs: int, tokens: int) -> dict[str, int]:
    """FLOPs that each call executes, by the closed forms."""
    every: tuple[ContextAttention, ...] = ("joint", *READ_ONCE)
    modes = {mode: replace(config, context_attention=mode) for mode in every}

    def forward(mode: ContextAttention, frames: int, depth: int) -> tuple[int, int]:
        cost = forward_cost(replace(modes[mode], depth=depth), query_layout(mode, frames, 1), tokens)
        return cost.executed, cost.blocks_executed

    def whole(frames: int) -> int:
        """As released: the last block is one like the others."""
        one, two = (forward("joint", frames, depth)[1] for depth in (1, 2))
        return forward("joint", frames, config.depth)[0] + (two - one) - one

    frames = 2 * pairs + 1
    found = {"released forward": whole(frames), "released null forward": whole(2)}
    found |= {f"{mode} forward": forward(mode, frames, config.depth)[0] for mode in modes}
    for mode in READ_ONCE:
        found[f"{mode} read pairs"] = read_cost(modes[mode], 2 * pairs, tokens).executed
        for name, before in (("", 2 * pairs), (" null", 1 if mode == "prefix" else 0)):
            found[f"{mode}{name} read query"] = read_cost(modes[mode], 1, tokens, before).executed
            found[f"{mode}{name} answer"] = answer_cost(modes[mode], before + 1, tokens).executed
    return found


def query_sum(costs: dict[str, float], way: str, steps: int) -> float:
    """What a query takes of the transformer, from what each call takes."""
    once, each = WAYS[way]
    return sum(costs[name] for name in once) + steps * sum(costs[name] for name in each)
