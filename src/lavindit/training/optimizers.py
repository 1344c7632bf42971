"""An optimizer for transformers and convolutional networks: Muon for matrices, AdamW for everything else, as one."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

# The quintic of Jordan et al. 2024: five rounds of it bring every singular value near 1, between about 0.7 and 1.2.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
SLIGHT = 1e-7


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) on weights that mix channels, AdamW on the rest, under one learning rate.

    Muon takes matrices, and kernels of convolutions as matrices of outputs by (inputs x taps); kernels of depthwise
    convolutions, gains and biases are AdamW's. Muon's updates are scaled to the size of AdamW's (Liu et al. 2025), so
    one rate and one schedule serve both.

    Args:
        params: Parameters.
        lr: Learning rate.
        beta1: AdamW's decay of the first moment.
        beta2: AdamW's decay of the second moment.
        momentum: Muon's, in Nesterov's form.
        weight_decay: Decoupled weight decay of both.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.95,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        everything = list(params)
        groups = [[p for p in everything if _mixes(p)], [p for p in everything if not _mixes(p)]]
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": (beta1, beta2)}
        super().__init__([{"params": group} for group in groups if group], defaults)
        rest = groups[1]
        self._adamw = torch.optim.AdamW(rest, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay) if rest else None
        if self._adamw is not None:
            own = self._adamw.param_groups[0]
            self.param_groups[-1].update({key: value for key, value in own.items() if key != "params"})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if not _mixes(group["params"][0]):
                assert self._adamw is not None
                # Settings and state are ours, so that schedules, clipping and checkpoints meet an ordinary optimizer.
                self._adamw.param_groups, self._adamw.state = [group], self.state
                self._adamw.step()
                continue
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step_of(weight, group)
        return loss

    def _step_of(self, weight: Tensor, group: dict) -> None:
        """Muon's step of one weight."""
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = orthogonalized(gradient.lerp(momentum, group["momentum"]))
        rows, columns = weight.shape[0], weight.numel() // weight.shape[0]
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update, alpha=-group["lr"] * 0.2 * max(rows, columns) ** 0.5)


def orthogonalized(update: Tensor) -> Tensor:
    """Bring all singular values of a weight's update near 1 by Newton and Schulz's iteration (Jordan et al. 2024).

    On a GPU in bfloat16, as usual. On a CPU in float32, which most of them multiply faster; where one side is much
    longer than the other, the iteration then runs on the small Gram matrix alone: the same polynomial, less work.

    Args:
        update: [O, I, ...]; a sharded one is gathered.

    Returns:
        The same shape and type.
    """
    if isinstance(update, DTensor):
        whole = orthogonalized(update.full_tensor())
        return distribute_tensor(whole, update.device_mesh, update.placements)
    matrix = update.flatten(1)
    x = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = x.bfloat16() if x.is_cuda else x.float()
    x = x / (x.norm() + SLIGHT)
    x = _by_gram_matrix(x) if not x.is_cuda and x.shape[1] >= 2 * len(x) else _by_quintic(x)
    x = x.T if len(matrix) > matrix.shape[1] else x
    return x.to(update.dtype).reshape(update.shape)


def _by_quintic(x: Tensor) -> Tensor:
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_gram_matrix(x: Tensor) -> Tensor:
    """As `_by_quintic`: each round multiplies x by a polynomial of its Gram matrix, so that all of them commute."""
    a, b, c = QUINTIC
    gram = x @ x.T
    product = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(ROUNDS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product, gram = factor @ product, factor @ gram @ factor
    return product @ x


def _mixes(weight: Tensor) -> bool:
    """Whether a weight is a matrix between channels."""
    return weight.ndim >= 2 and weight.shape[1] > 1
