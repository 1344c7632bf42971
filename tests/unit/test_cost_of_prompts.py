"""The closed forms of what reading and answering cost are what torch counts."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lavindit.models import JDiT, JDiTConfig
from lavindit.models.jdit import KVCache, query_layout
from lavindit.models.jdit.attention import plain_kernel
from lavindit.models.jdit.cost import answer_cost, cache_bytes, forward_cost, read_cost

SMALL = JDiTConfig(width=128, depth=3, heads=4, queries_per_kv=2)
TOKENS = 6  # of a frame of `latents`
MODES: list[Any] = ["prefix", "causal"]


@pytest.fixture(autouse=True)
def _countable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of matrices alone: torch's counter does not know the CPU's fused kernel."""
    monkeypatch.setattr("lavindit.models.jdit.attention._kernel", plain_kernel)


def latents(frames: int, seed: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 16, frames, 4, 6, generator=torch.Generator().manual_seed(seed))


def count(run: Any, *args: Any) -> tuple[int, Any]:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        found = run(*args)
    return counter.get_total_flops(), found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"full_last_block": True, "sandwich": False, "queries_per_kv": 1},
        {"input_condition": True, "input_skip": True},
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_reading_and_answering(mode: Any, batch: int, options: dict[str, Any]) -> None:
    config = replace(SMALL, context_attention=mode, **options)
    model = JDiT(config)
    counted, pairs = count(model.read, latents(4, 0))
    assert read_cost(config, 4, TOKENS).executed == counted
    asked = latents(2, 1, batch)
    counted, query = count(model.read, asked, [pairs])
    assert read_cost(config, 2, TOKENS, past_frames=4, batch=batch).executed == counted
    counted, _ = count(model.answer, latents(2, 2, batch), torch.rand(batch), [pairs, query], asked)
    assert answer_cost(config, 6, TOKENS, target_frames=2, batch=batch).executed == counted


@pytest.mark.parametrize("mode", MODES)
def test_bytes_are_those_of_what_was_read(mode: Any) -> None:
    config = replace(SMALL, context_attention=mode)
    cache: KVCache = JDiT(config).bfloat16().read(latents(4, 0, 2))
    assert cache_bytes(config, 4, TOKENS, bytes_per_number=2, batch=2) == cache.bytes


@pytest.mark.parametrize("mode", MODES)
def test_calls_compute_what_is_seen_and_no_more(mode: Any) -> None:
    config, layout = replace(SMALL, context_attention=mode), query_layout(mode, 5, 1)
    noisy, context = torch.rand(1, 16, 1, 16, 16), torch.rand(1, 16, 5, 16, 16)
    counted, _ = count(JDiT(config), noisy, torch.rand(1), context, layout)
    cost = forward_cost(config, layout, 64)
    assert cost.executed == cost.model == counted


@pytest.mark.parametrize("mode", MODES)
def test_what_is_read_once_and_asked_once_is_a_forward_pass(mode: Any) -> None:
    """Of attention; linear layers differ by the modulations, which a reading and an answer each compute."""
    config = replace(SMALL, context_attention=mode)
    parts = [read_cost(config, 4, 64), read_cost(config, 1, 64, past_frames=4), answer_cost(config, 5, 64)]
    whole = forward_cost(config, query_layout(mode, 5, 1), 64)
    assert sum(part.attention for part in parts) == whole.attention
    assert sum(part.linears for part in parts) == pytest.approx(whole.linears, rel=0.01)
