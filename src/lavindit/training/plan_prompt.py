"""What a compiled prompt will take in memory: to read its pairs, to keep them, and to answer from them.

As in `lavindit.training.plan`, nothing is written down as a formula: the engine's own functions run on fake tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.inference.sampler import (
    SamplingConfig,
    can_read_once,
    encode_batch,
    join_pairs,
    pictures_a_pass,
    read_pairs,
    sample_queries,
)
from lavindit.models import STVAE, JDiT, JDiTConfig, STVAEConfig
from lavindit.models.jdit.cost import cache_bytes
from lavindit.training.plan import VAE_FACTOR, Kernels, Memory
from lavindit.training.trace import StorageTrace, pretending
from lavindit.types import EpisodeBatch

Weights = Literal["float32", "bfloat16"]
STEPS = 2  # of a trace: the first leaves a state behind that the next one holds


@dataclass(frozen=True)
class PromptSetup:
    """How a prompt is compiled and asked, by the engine, about images.

    Attributes:
        resolution: Side of the model's square in pixels, a multiple of 16.
        pairs: Pairs K.
        queries: Queries a batch.
        guidance: Guidance scale; another than 1 runs the branch without pairs, too.
        weights: Type of the weights, and of keys and values.
        kernels: Whose kernels run: they differ in what they hold for a moment.
    """

    resolution: int = 256
    pairs: int = 8
    queries: int = 1
    guidance: float = 1.0
    weights: Weights = "float32"
    kernels: Kernels = "cuda"

    def __post_init__(self) -> None:
        if self.resolution < 16 or self.resolution % 16:
            raise LavinditError(f"the resolution must be a multiple of 16 pixels, got {self.resolution}")
        for name in ("pairs", "queries"):
            if getattr(self, name) < 1:
                raise LavinditError(f"{name} of a compiled prompt must be at least 1, got {getattr(self, name)}")
        SamplingConfig(guidance=self.guidance)  # refuses what is no guidance

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return torch.float32 if self.weights == "float32" else torch.bfloat16


@dataclass(frozen=True)
class PromptPlan:
    """What a compiled prompt takes.

    Attributes:
        setup: What was asked.
        prompt: Bytes of the prompt itself, which stay as long as it does: `Prompt.bytes`.
        query: Bytes of the keys and values of one query, while it is answered.
        memory: Of the device. Phases: "encoding" the pairs, "reading" them, "answering" a batch of queries.
    """

    setup: PromptSetup
    prompt: int
    query: int
    memory: Memory


def plan_prompt(config: JDiTConfig, vae: STVAEConfig, setup: PromptSetup) -> PromptPlan | None:
    """Plan a compiled prompt; None where the model's context sees the noise, so that nothing can be kept.

    Not counted: gaps of the allocator, CUDA's context, workspaces of libraries, the pairs as pictures (for reports).

    Raises:
        LavinditError: The setup makes no sense.
    """
    with torch.device("meta"):
        networks = STVAE(vae), JDiT(config)
    if not can_read_once(networks[1]):
        return None
    sizes = [sum(p.numel() for p in network.parameters()) * setup.dtype.itemsize for network in networks]
    trace, prompt = trace_prompt(*networks, setup)
    tokens = (setup.resolution // VAE_FACTOR // config.patch) ** 2
    query = cache_bytes(config, 1, tokens, setup.dtype.itemsize) * (1 if setup.guidance == 1 else 2)
    phases = {name: sum(sizes) + trace.peak(name) for name in ("encoding", "reading", "answering")}
    items = {"VAE": sizes[0], "J-DiT": sizes[1], "prompt": prompt, "queries": setup.queries * query}
    memory = Memory(items | {"temporary": max(phases.values()) - sum(items.values())}, phases)
    return PromptPlan(setup, prompt, query, memory)


def trace_prompt(vae: STVAE, jdit: JDiT, setup: PromptSetup) -> tuple[StorageTrace, int]:
    """Run `compile_and_answer` on fake tensors; its trace, by phase, and the bytes of the prompt."""
    networks = nn.ModuleList([vae, jdit]).to(setup.dtype).eval().requires_grad_(False)
    with pretending(networks, setup.kernels == "cuda") as trace:

        def enter(phase: str) -> None:
            trace.phase = phase

        return trace, compile_and_answer(vae, jdit, setup, enter)


@torch.no_grad()
def compile_and_answer(vae: STVAE, jdit: JDiT, setup: PromptSetup, enter: Callable[[str], None]) -> int:
    """Compile a prompt from pictures and answer a batch of queries, as the engine does.

    Args:
        vae: The VAE, in the setup's type.
        jdit: The transformer, likewise.
        setup: Sizes.
        enter: Told the name of each phase as it begins.

    Returns:
        Bytes of the prompt.
    """
    enter("encoding")
    clean = _encode_pairs(vae, setup)
    enter("reading")
    shown = read_pairs(jdit, clean)
    del clean
    enter("answering")
    asked = _pictures(setup.queries, 1, setup)
    chunk = pictures_a_pass(asked)
    query = vae.to_latent(asked, None, chunk)[:, 0]
    del asked
    names = [str(number) for number in range(setup.queries)]
    sampling = SamplingConfig(steps=STEPS, guidance=setup.guidance)
    vae.to_pictures(sample_queries(jdit, shown, query, 1, names, sampling), chunk)
    return shown.bytes


def _encode_pairs(vae: STVAE, setup: PromptSetup) -> Tensor:
    """The clean frames of the pairs, from pictures that are let go."""
    inputs, targets = (_pictures(1, setup.pairs, setup) for _ in range(2))
    batch = EpisodeBatch(inputs, targets, ())
    return join_pairs(encode_batch(vae, batch, chunk=pictures_a_pass(inputs, targets)), setup.pairs)


def _pictures(batch: int, count: int, setup: PromptSetup) -> Tensor:
    return torch.rand(batch, count, 3, 1, setup.resolution, setup.resolution)
