"""The compiled step, and prompts in bfloat16."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import TINY_JDIT, make_tiny_jdit
from lavindit.flow import seeded_noise
from lavindit.inference.sampler import SamplingConfig, read_pairs, sample_queries
from lavindit.inference.serving import compile_step
from lavindit.models import JDiT

CAUSAL = replace(TINY_JDIT, context_attention="causal")
PREFIX = replace(TINY_JDIT, context_attention="prefix")
SAMPLING = SamplingConfig(steps=2)


def latents(frames: int, seed: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 16, frames, 4, 4, generator=torch.Generator().manual_seed(seed))


def ask(model: JDiT, batch: int = 2, pairs: int = 2, seed: int = 1, sampling: SamplingConfig = SAMPLING) -> Tensor:
    """Queries against one prompt."""
    dtype = next(model.parameters()).dtype
    shown, query = read_pairs(model, latents(2 * pairs, seed)), latents(1, seed + 1, batch)
    assert shown.pairs.keys.shape[1] == 1
    assert shown.pairs.keys.dtype == dtype
    return sample_queries(model, shown, query, 1, [f"query {i}" for i in range(batch)], sampling)


def test_a_step_is_compiled_once_for_its_shapes() -> None:
    torch.compiler.reset()
    model, plain = make_tiny_jdit(CAUSAL), make_tiny_jdit(CAUSAL)
    step = compile_step(model, backend="eager")
    torch.testing.assert_close(ask(model), ask(plain), atol=1e-4, rtol=1e-4)
    with torch.compiler.set_stance("fail_on_recompile"):  # another prompt, another query
        torch.testing.assert_close(ask(model, seed=5), ask(plain, seed=5), atol=1e-4, rtol=1e-4)
        with pytest.raises(RuntimeError, match="recompil"):
            ask(model, batch=3)
    assert len(step.first_call_s) == 1
    guided = replace(SAMPLING, guidance=2.0)
    with torch.inference_mode():
        torch.testing.assert_close(ask(model, sampling=guided), ask(plain, sampling=guided), atol=1e-4, rtol=1e-4)
    assert len(step.first_call_s) == 2
    assert min(step.first_call_s.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_generated_code_answers_as_the_model_does(dtype: torch.dtype) -> None:
    model, plain = make_tiny_jdit(CAUSAL).to(dtype), make_tiny_jdit(CAUSAL).to(dtype)
    compile_step(model)
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(ask(model), ask(plain), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("config", [PREFIX, CAUSAL])
def test_a_prompt_in_bfloat16_answers_as_one_in_float32(config: Any) -> None:
    precise, coarse = make_tiny_jdit(config), make_tiny_jdit(config).bfloat16()
    guided = replace(SAMPLING, guidance=2.0, steps=4)
    for sampling in (SAMPLING, guided):
        exact, found = ask(precise, sampling=sampling), ask(coarse, sampling=sampling)
        assert found.dtype == torch.float32
        moved = (exact - seeded_noise(["query 0", "query 1"], (16, 1, 4, 4))).square().mean().sqrt()
        assert 0 < (found - exact).square().mean().sqrt() < 0.02 * moved
