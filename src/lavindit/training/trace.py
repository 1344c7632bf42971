"""What a computation holds in memory, found by running it on fake tensors: shapes without contents."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

from lavindit.models.jdit.rope import forget_angles


class StorageTrace(TorchDispatchMode):
    """Follows every storage that operations make, from birth to death.

    Attributes:
        live: Bytes that live now: "activations", casts of weights ("copies"), finished "gradients".
        events: (phase, activations, copies, gradients) after every operation that changed them.
        phase: What to call the coming events.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.live = {"activations": 0, "copies": 0, "gradients": 0}
        self.phase = "forward"
        self.events: list[tuple[str, int, int, int]] = [(self.phase, 0, 0, 0)]
        self._known: dict[int, tuple[str, int, weakref.ref]] = {}
        self._weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._name_gradient)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, Tensor):
                cast = func is torch.ops.aten._to_copy.default and args[0].untyped_storage()._cdata in self._weights
                self._note(tensor.untyped_storage(), "copies" if cast else "activations")
        self.note(self.phase)
        return out

    def note(self, phase: str) -> None:
        """Note what lives now, unless nothing changed."""
        event = (phase, self.live["activations"], self.live["copies"], self.live["gradients"])
        if event != self.events[-1]:
            self.events.append(event)

    def peak(self, phase: str, copies: float = 1, gradients: float = 1) -> int:
        """Most bytes in a phase, if copies and gradients count with these weights."""
        return round(max(a + copies * c + gradients * g for name, a, c, g in self.events if name == phase))

    def _note(self, storage: torch.UntypedStorage, kind: str) -> None:
        key = storage._cdata
        if key not in self._weights and key not in self._known:
            self._known[key] = (kind, storage.nbytes(), weakref.ref(storage, lambda _: self._forget(key)))
            self.live[kind] += storage.nbytes()

    def _forget(self, key: int) -> None:
        kind, size, _ = self._known.pop(key)
        self.live[kind] -= size

    def _name_gradient(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        key = parameter.grad.untyped_storage()._cdata
        kind, size, reference = self._known[key]
        self._known[key] = ("gradients", size, reference)
        self.live[kind] -= size
        self.live["gradients"] += size


class _FusedRMSNorm(torch.autograd.Function):
    """Keeps what CUDA's kernel keeps: its input and one number a row. The CPU has no such kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None) -> Tensor:
        rows = torch.empty(x.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(x, weight, rows)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None]:
        x, weight, _ = ctx.saved_tensors
        return torch.empty_like(x), None if weight is None else torch.empty_like(weight)


def _as_cuda(name: str) -> Callable[..., Tensor]:
    """A norm of `torch.nn.functional` as CUDA runs it: fused, and in float32 under autocast."""
    plain = getattr(F, name)

    def run(*args: Any, **kwargs: Any) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(Tensor, Tensor.float, (args, kwargs))
        with torch.autocast("cpu", enabled=False):
            if name == "rms_norm":
                return _FusedRMSNorm.apply(args[0], args[2] if len(args) > 2 else kwargs.get("weight"))
            return plain(*args, **kwargs)

    return run


@contextmanager
def _cuda_norms() -> Iterator[None]:
    """Norms as CUDA runs them; a trace with CUDA's own would need a CUDA build of torch."""
    plain = {name: getattr(F, name) for name in ("rms_norm", "layer_norm", "group_norm")}
    try:
        for name in plain:
            setattr(F, name, _as_cuda(name))
        yield
    finally:
        for name, function in plain.items():
            setattr(F, name, function)


@contextmanager
def pretending(network: nn.Module, as_cuda: bool) -> Iterator[StorageTrace]:
    """Fake weights, kernels as CUDA's or as the CPU's, and a trace of all that is computed."""
    forget_angles()  # kept tables are real, those made here are not
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            network.to_empty(device="cpu")
            trace = StorageTrace(network)
            with _cuda_norms() if as_cuda else nullcontext(), trace:
                yield trace
    finally:
        forget_angles()
