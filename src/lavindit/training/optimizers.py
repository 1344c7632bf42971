"""An optimizer for transformers: Muon for matrices, AdamW for everything else, as one."""

from collections.abc import Callable, Iterable

import torch
from torch import nn


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
        groups = [[p for p in everything if p.ndim == 2], [p for p in everything if p.ndim != 2]]
        super().__init__([{"params": group} for group in groups if group], {"lr": lr})
        self.parts: list[torch.optim.Optimizer] = []
        for group in self.param_groups:
            if group["params"][0].ndim == 2:
                part = torch.optim.Muon(
                    group["params"], lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
                )
            else:
                betas = (beta1, beta2)
                part = torch.optim.AdamW(group["params"], lr=lr, betas=betas, weight_decay=weight_decay)
            group.update({key: value for key, value in part.param_groups[0].items() if key != "params"})
            self.parts.append(part)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part, group in zip(self.parts, self.param_groups, strict=True):
            # Settings and state are ours, so that schedules, clipping and checkpoints meet an ordinary optimizer.
            part.param_groups, part.state = [group], self.state
            part.step()
        return loss
