"""Exponential moving average of trained weights."""

from collections.abc import Callable

import torch
from torch import nn


class EMA:
    """Keeps a second network at the average of a trained one's weights.

    The average is a network of its own: it is sharded, stored and resumed as the trained one is, and is called where
    averaged weights are wanted. The decay is min(decay, (1 + n) / (10 + n)) after n updates, so that early averages
    forget the start.

    Args:
        live: The trained network.
        average: A network of the same structure, with the same weights to start from.
        decay: Share of the old average that an update keeps.
    """

    def __init__(self, live: nn.Module, average: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        pairs = list(zip(live.parameters(), average.parameters(), strict=True))
        self._live = [a.detach() for a, _ in pairs if a.requires_grad]
        self._average = [b.detach() for a, b in pairs if a.requires_grad]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the live weights; call after each optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, self._live, 1 - decay)
        self.updates += 1


def averaged_copy(network: nn.Module, build: Callable[[], nn.Module], spread: Callable[[nn.Module], None]) -> nn.Module:
    """A second network with the weights of a first one, sharded or not; it never needs a gradient.

    Args:
        network: The first one, sharded already where it is to be.
        build: Makes a network of the same structure.
        spread: Shards a network; may do nothing.
    """
    with torch.device("meta"):
        copy = build().requires_grad_(False)
    spread(copy)
    copy.to_empty(device=next(network.parameters()).device)
    with torch.no_grad():
        for own, other in zip(copy.state_dict().values(), network.state_dict().values(), strict=True):
            own.copy_(other)
    return copy
