"""An optimizer for transformers: Muon for matrices, AdamW for everything else, as one."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) on two-dimensional weights, AdamW on the rest, under one learning rate.

    Both are torch's own. Muon's updates are scaled to the size of AdamW's (`match_rms_adamw`, Liu et al. 2025), so
    one rate and one schedule serve both. Needs torch 2.9.

    Args:
        params: Parameters.
        lr: Learning rate.
        beta1: AdamW's decay of the first moment.
        beta2: AdamW's decay of the second moment.
        momentum: Muon's.
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
        matrices = [p for p in everything if p.ndim == 2]
        others = [p for p in everything if p.ndim != 2]
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(
                matrices, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self.parts.append(muon)
        if others:
            self.parts.append(torch.optim.AdamW(others, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay))
        super().__init__(everything, {"lr": lr})
        # The parts' own groups, so that a scheduler or a clipper that walks `param_groups` reaches them.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """State of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of both."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state = _joined_state(self.parts)  # pyright: ignore[reportAttributeAccessIssue]


def _joined_state(parts: list[torch.optim.Optimizer]) -> dict[Tensor, Any]:
    return {parameter: state for part in parts for parameter, state in part.state.items()}
