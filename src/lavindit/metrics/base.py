"""The base of every metric: one row a sample, so that figures carry their n and their standard error."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class RowMetric(Metric):
    """Keeps one row of numbers a sample and reduces the rows at the end.

    Samples are told apart by their id, so a sample that a distributed sampler repeats counts once.
    By default a row holds one number a column and the result is their mean over samples; a metric that pools
    differently (mIoU over classes, say) keeps what it needs in its row and overrides `reduce`.

    Attributes:
        names: Keys of the result, in order.
        width: Numbers in a row.
    """

    names: ClassVar[tuple[str, ...]]
    full_state_update = False
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Row of one sample: natives [N, T, H, W] and valid bool [1, T, H, W] -> [width].

        An undefined figure (no valid pixel, say) is NaN and left out of the mean.
        """

    def update(
        self, answer: Tensor, truth: Tensor, valid: Tensor, sample: int, meta: Mapping[str, Any] | None = None
    ) -> None:
        """Add one sample; `sample` is its number, unique in the test set."""
        row = self.score(answer.double(), truth.double(), valid, meta or {})
        self.rows.append(torch.cat([torch.tensor([float(sample)], dtype=torch.float64), row.double().cpu()])[None])

    def unique_rows(self) -> Tensor:
        """Rows [n, width] in order of sample number, each sample once."""
        if not self.rows:
            return torch.zeros(0, len(self.names), dtype=torch.float64)
        table = dim_zero_cat(self.rows).cpu()
        order = torch.unique(table[:, 0], return_inverse=True)[1]
        first = torch.full((int(order.max()) + 1,), -1, dtype=torch.long)
        for position in range(len(table) - 1, -1, -1):
            first[order[position]] = position
        return table[first, 1:]

    def compute(self) -> dict[str, Tensor]:
        """The figures by name."""
        return self.reduce(self.unique_rows())

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows [n, width] -> figure by name; NaN where no sample defines it."""
        return {name: rows[:, i].nanmean() for i, name in enumerate(self.names)}

    def standard_error(self) -> dict[str, Tensor]:
        """Standard error of each figure over samples; jackknife, so it holds for pooled figures too."""
        rows = self.unique_rows()
        n = len(rows)
        if n < 2:
            return {name: torch.tensor(float("nan")) for name in self.names}
        keep = ~torch.eye(n, dtype=torch.bool)
        left_out = [self.reduce(rows[keep[i]]) for i in range(n)]
        errors = {}
        for name in self.names:
            values = torch.stack([figures[name] for figures in left_out])
            values = values[~values.isnan()]
            errors[name] = ((len(values) - 1) * values.var(unbiased=False)).sqrt() if len(values) > 1 else values.sum()
        return errors
