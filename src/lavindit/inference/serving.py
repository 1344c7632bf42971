"""Many queries against compiled prompts: the step through `torch.compile`."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from lavindit.models import JDiT
from lavindit.models.jdit import KVCache
from lavindit.models.jdit.rope import SequenceTables

Shapes = tuple[tuple[int, ...], ...]


class CompiledStep:
    """The step of a J-DiT after what it has read, compiled for each set of shapes that it meets.

    Shapes are static: other queries and prompts of the same batch, size and number of pairs run the same code, anything
    else is compiled when it first comes. torch keeps eight of them (`torch._dynamo.config.recompile_limit`) and runs
    further ones as they are, so batches should be filled up to a few sizes.

    Args:
        jdit: The model; its weights may be of any type. Whoever calls is without gradient, as `JDiT.answer` is.
        backend: Of `torch.compile`.

    Attributes:
        first_call_s: Seconds of the first call by shapes, of the noisy latents and of each stretch of keys: compiling,
            and the step itself.
    """

    def __init__(self, jdit: JDiT, backend: str = "inductor") -> None:
        self.first_call_s: dict[Shapes, float] = {}
        self._step = torch.compile(jdit.step, dynamic=False, backend=backend)

    def __call__(
        self, noisy: Tensor, t: Tensor, past: Sequence[KVCache], tables: SequenceTables, inputs: Tensor | None = None
    ) -> Tensor:
        """As `JDiT.step`."""
        shapes = (tuple(noisy.shape), *(tuple(cache.keys.shape) for cache in past))
        if shapes in self.first_call_s:
            return self._step(noisy, t, past, tables, inputs)
        start = time.perf_counter()
        found = self._step(noisy, t, past, tables, inputs)
        if found.is_cuda:
            torch.cuda.synchronize(found.device)
        self.first_call_s[shapes] = time.perf_counter() - start
        return found


def compile_step(jdit: JDiT, backend: str = "inductor") -> CompiledStep:
    """Compile the step of a model in its place: `compile_step(engine.jdit)`, and the engine answers by it.

    Reading, and models whose context sees the noise, stay as they are.

    Args:
        jdit: The model, in the type and on the device that it will answer with.
        backend: Of `torch.compile`.

    Returns:
        What runs the steps from now on. It tells what first calls took.
    """
    compiled = CompiledStep(jdit, backend)
    jdit.__dict__["step"] = compiled  # a model's own attribute comes before its class's method
    return compiled
