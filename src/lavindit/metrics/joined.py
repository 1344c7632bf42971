"""Several metrics as one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.metrics.base import RowMetric


class JoinedMetric(RowMetric):
    """One metric made of several: it has the figures of all of them, each as its own metric has it.

    A row is the rows of the parts, end to end.

    Args:
        parts: The metrics, which must not have been updated; their order is that of the figures.

    Attributes:
        parts: The metrics, which score and reduce; they hold no rows themselves.

    Raises:
        LavinditError: There is no part, or two parts have a figure of the same name.
    """

    def __init__(self, *parts: RowMetric) -> None:
        super().__init__()
        self.parts = parts
        self.names = tuple(name for part in parts for name in part.names)
        self.units = tuple(unit for part in parts for unit in part.units)
        self.ideals = tuple(ideal for part in parts for ideal in part.ideals)
        twice = [name for i, name in enumerate(self.names) if name in self.names[:i]]
        if twice:
            raise LavinditError(f"two of the joined metrics measure {twice[0]!r}; leave one of them out")
        if not parts:
            raise LavinditError("a joined metric needs at least one metric")

    def only(self, name: str) -> RowMetric:
        """The part that has the figure `name`, without its others where it can."""
        super().only(name)
        return next(part for part in self.parts if name in part.names).only(name)

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Natives [N, T, H, W] and valid bool [1, T, H, W], which suit all parts -> their rows, end to end."""
        rows = [part.score(answer, truth, valid, meta).double().flatten() for part in self.parts]
        return torch.cat([row.to(answer.device) for row in rows])

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows [n, width] -> figure by name, in the order of `names`."""
        return self._gather([part.reduce(own) for part, own in self._split(rows)])

    def standard_error_of(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows [n, width] -> standard error by name, each as its own metric has it."""
        return self._gather([part.standard_error_of(own) for part, own in self._split(rows)])

    def _row_width(self) -> int:
        return sum(part._row_width() for part in self.parts)

    def _split(self, rows: Tensor) -> list[tuple[RowMetric, Tensor]]:
        """Each part with its columns of the rows."""
        widths = [part._row_width() for part in self.parts]
        return list(zip(self.parts, rows.split(widths, dim=1), strict=True))

    def _gather(self, figures: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The parts' figures in one, in the order of `names`."""
        known = {name: value for part in figures for name, value in part.items()}
        return {name: known[name] for name in self.names}
