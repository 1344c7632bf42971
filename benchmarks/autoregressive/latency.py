"""Seconds per query, ours beside the autoregressive baseline's: the calls, and the ways of answering they make up.

Both answer one query of `px` px after K pairs, from picture to picture. "cached": the pairs were tokenized or encoded
and read before, for all queries. "anew": they are encoded and read again for every query, once, as LVM is published
(keys and values are kept within a query). "released" is how LaVin-DiT is published: everything is computed again in
every step, here without guidance. Pictures are random, since an answer's time does not depend on them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import lavindit  # noqa: F401  (first: it repairs torchvision)

# isort: split
import torch

from autoregressive.answers import Sampling, generate
from autoregressive.model import Decoder, sentences_of
from autoregressive.tokenizer import Tokenizer
from latency_clock import time_in_turn
from lavindit.inference.sampler import SamplingConfig, read_pairs, sample_queries
from lavindit.models import STVAE, JDiT

STEPS = (4, 20)
GREEDY = Sampling()
IDS = ["query"]
Figures = dict[str, Any]

WAYS: dict[str, tuple[str, ...]] = {
    "autoregressive, cached": ("tokenize query", "write after prompt", "tokens to picture"),
    "autoregressive, anew": ("tokenize pairs", "read tokens of pairs", "tokenize query", "write after prompt",
        "tokens to picture"),
    **{f"ours, {n} steps, cached": ("encode query", f"{n} steps after prompt", "decode") for n in STEPS},
    **{f"ours, {n} steps, anew": ("encode pairs", "read pairs", "encode query", f"{n} steps after prompt", "decode")
        for n in STEPS},
    **{f"ours, {n} steps, released": ("encode pairs", "encode query", *["whole forward"] * n, "decode")
        for n in STEPS},
}  # fmt: skip
"""The calls that a query takes in each way."""
OUTSIDE = ("tokenize", "encode", "decode", "tokens to picture")
"""Beginnings of the calls that are not of the transformer."""


@torch.no_grad()
def measure_cell(vae: STVAE, jdit: JDiT, tokenizer: Tokenizer, decoder: Decoder, px: int, pairs: int) -> Figures:
    """Median seconds of every call of a cell, in turn, and what each way takes of them.

    Args:
        vae: Ours.
        jdit: Ours; its context must not see the noise.
        tokenizer: The baseline's.
        decoder: The baseline's.
        px: Side of the pictures.
        pairs: K.
    """
    ours, theirs = our_calls(vae, jdit, px, pairs), baseline_calls(tokenizer, decoder, px, pairs)
    calls = time_in_turn(ours | theirs, "cpu")
    seconds = {name: call["s"] for name, call in calls.items()}
    transformer = {name: 0.0 if name.startswith(OUTSIDE) else s for name, s in seconds.items()}
    return {"calls": calls, "query_s": sums(seconds), "query_transformer_s": sums(transformer)}


def sums(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of a query by way, from those of the calls."""
    return {way: sum(seconds[name] for name in parts) for way, parts in WAYS.items()}


def our_calls(vae: STVAE, jdit: JDiT, px: int, pairs: int) -> dict[str, Callable[[], Any]]:
    """What our ways are made of."""
    shown, asked = torch.rand(2 * pairs, 3, 1, px, px), torch.rand(1, 3, 1, px, px)
    clean, query = vae.to_latent(shown)[:, :, 0].transpose(0, 1)[None], vae.to_latent(asked)
    prompt, context = read_pairs(jdit, clean), torch.cat([clean, query], dim=2)
    noisy, t = torch.randn_like(query), torch.full((1,), 0.5)
    calls: dict[str, Callable[[], Any]] = {
        "encode pairs": lambda: vae.to_latent(shown),
        "read pairs": lambda: read_pairs(jdit, clean),
        "encode query": lambda: vae.to_latent(asked),
        "whole forward": lambda: jdit(noisy, t, context),
        "decode": lambda: vae.to_pictures(query),
    }
    for steps in STEPS:
        config = SamplingConfig(steps)
        calls[f"{steps} steps after prompt"] = lambda c=config: sample_queries(jdit, prompt, query, 1, IDS, c)
    return calls


def baseline_calls(tokenizer: Tokenizer, decoder: Decoder, px: int, pairs: int) -> dict[str, Callable[[], Any]]:
    """What the baseline's ways are made of."""
    shown, asked = torch.rand(2, 1, pairs, 3, 1, px, px), torch.rand(1, 3, 1, px, px)
    sentence, query = sentences_of(*tokenizer.encode(shown)), tokenizer.encode(asked)
    prompt, _ = decoder.read(sentence)
    return {
        "tokenize pairs": lambda: tokenizer.encode(shown),
        "read tokens of pairs": lambda: decoder.read(sentence),
        "tokenize query": lambda: tokenizer.encode(asked),
        "write after prompt": lambda: generate(decoder, query, IDS, GREEDY, prompt),
        "tokens to picture": lambda: tokenizer.decode(query, px),
    }


def ratios(cells: list[Figures]) -> list[Figures]:
    """How many times longer the baseline takes, by cell, both whole queries and transformers alone."""
    pairs_of_ways = {
        f"{steps} steps, {ours}, against {theirs}": (f"autoregressive, {theirs}", f"ours, {steps} steps, {ours}")
        for steps in STEPS
        for ours, theirs in (("cached", "cached"), ("cached", "anew"), ("anew", "anew"), ("released", "anew"))
    }
    return [
        {"resolution": cell["resolution"], "pairs": cell["pairs"]}
        | {
            which: {name: cell[which][a] / cell[which][b] for name, (a, b) in pairs_of_ways.items()}
            for which in ("query_s", "query_transformer_s")
        }
        for cell in cells
    ]
