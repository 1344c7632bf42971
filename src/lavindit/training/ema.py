"""Exponential moving average of trained weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Shadow tensors of the trainable parameters, of this process's shards where they are sharded.

    The decay is min(decay, (1 + n) / (10 + n)) after n updates, so that early averages forget the start.

    Args:
        parameters: Named parameters; those that need no gradient are left out.
        decay: Share of the old average that an update keeps.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._live = {name: parameter for name, parameter in parameters if parameter.requires_grad}
        self.shadow = {name: parameter.detach().clone() for name, parameter in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the live weights; call after each optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        live = [parameter.detach() for parameter in self._live.values()]
        shadow = list(self.shadow.values())
        if shadow and shadow[0].device != live[0].device:
            self.shadow = {name: value.to(live[0].device) for name, value in self.shadow.items()}
            shadow = list(self.shadow.values())
        torch._foreach_lerp_(shadow, live, 1 - decay)
        self.updates += 1

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The network with averaged weights, for the time of a `with` block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged weights; twice is none."""
        for name, parameter in self._live.items():
            average = self.shadow[name].to(parameter.device)
            self.shadow[name] = parameter.detach().clone()
            parameter.copy_(average)

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        """Averages and number of updates."""
        return {"updates": self.updates, "shadow": dict(self.shadow)}

    def load_state_dict(self, state: dict) -> None:
        """Averages and number of updates of an earlier sitting."""
        self.updates = int(state["updates"])
        self.shadow = {name: state["shadow"][name].to(value.device) for name, value in self.shadow.items()}
