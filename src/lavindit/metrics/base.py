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

    Samples are told apart by their number, so a sample that a distributed sampler repeats counts once.
    By default a row holds one number a column and the result is their mean over samples; a metric that pools
    differently (mIoU over classes, say) keeps what it needs in its row, sets `width` and overrides `reduce`.

    Attributes:
        names: Keys of the result, in order.
        units: Unit of each key, as a task's columns should state it.
        ideals: What a perfect answer scores, for each key.
        width: Numbers in a row; 0 stands for one a name.
    """

    names: ClassVar[tuple[str, ...]]
    units: ClassVar[tuple[str, ...]] = ()
    ideals: ClassVar[tuple[float, ...]] = ()
    width: ClassVar[int] = 0
    full_state_update = False
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        # Rows are kept flat, and the metric in double precision, because a process that saw no sample hands
        # torchmetrics an empty 1-D tensor of the metric's dtype, which must gather with the others' rows.
        self.set_dtype(torch.float64)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Row of one sample: natives [N, T, H, W] and valid bool [1, T, H, W] -> [width].

        An undefined figure (no valid pixel, say) is NaN and left out of the mean.
        """

    def update(
        self, answer: Tensor, truth: Tensor, valid: Tensor, sample: int, meta: Mapping[str, Any] | None = None
    ) -> None:
        """Add one sample; `sample` is its number, unique in the test set.

        Scored in double precision, where the answer lies (truths usually stay on the host).

        Args:
            answer: Decoded answer [N, T, H, W] in native units.
            truth: Its truth [N, T, H, W], on any device.
            valid: bool [1, T, H, W], on any device; the pixels that count.
            sample: Number of the sample.
            meta: What the pair knows besides, e.g. `class_id`.
        """
        device = _double_device(answer.device)
        answer, truth, valid = answer.to(device).double(), truth.to(device).double(), valid.to(device)
        row = self.score(answer, truth, valid, meta or {}).double().flatten()
        if len(row) != self._row_width():
            raise ValueError(f"{type(self).__name__}.score gave {len(row)} numbers, not {self._row_width()}")
        number = torch.tensor([float(sample)], dtype=torch.float64)
        # On the metric's own device, because NCCL gathers only what lies on it.
        self.rows.append(torch.cat([number, row.cpu()]).to(_double_device(self.device)))

    def unique_rows(self) -> Tensor:
        """Rows [n, width] of all processes, in order of sample number, each sample once.

        The first call after an update gathers the rows, so every process must make it (or `compute`).
        """
        self.compute()
        return self._unique

    def compute(self) -> dict[str, Tensor]:
        """The figures by name."""
        self._unique = self._deduplicate()
        return self.reduce(self._unique)

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows [n, width] -> figure by name; NaN where no sample defines it."""
        return {name: rows[:, i].nanmean() for i, name in enumerate(self.names)}

    def standard_error(self) -> dict[str, Tensor]:
        """Standard error of each figure over samples; jackknife, so it holds for pooled figures too.

        Samples that leave a figure undefined do not count; NaN where fewer than two define it.
        """
        rows = self.unique_rows()
        if type(self).reduce is RowMetric.reduce:  # the jackknife of a mean has a closed form
            return {name: _standard_error_of_mean(rows[:, i]) for i, name in enumerate(self.names)}
        rows = rows[~rows.isnan().all(dim=1)]
        n = len(rows)
        if n < 2:
            return {name: torch.tensor(float("nan"), dtype=torch.float64) for name in self.names}
        left_out = [self.reduce(torch.cat([rows[:i], rows[i + 1 :]])) for i in range(n)]
        values = {name: torch.stack([figures[name] for figures in left_out]).double() for name in self.names}
        # The jackknife's spread is that of the mean of n values, times n - 1.
        return {name: (n - 1) * _standard_error_of_mean(column) for name, column in values.items()}

    def _row_width(self) -> int:
        return self.width or len(self.names)

    def _deduplicate(self) -> Tensor:
        """Rows [n, width] of the current state, in order of sample number, the first of each number."""
        if isinstance(self.rows, list) and not self.rows:
            return torch.zeros(0, self._row_width(), dtype=torch.float64)
        table = dim_zero_cat(self.rows).double().cpu().reshape(-1, self._row_width() + 1)
        numbers, place = torch.unique(table[:, 0], return_inverse=True)
        first = torch.full((len(numbers),), len(table), dtype=torch.long)
        first.scatter_reduce_(0, place, torch.arange(len(table)), "amin")
        return table[first, 1:]


def _double_device(device: torch.device) -> torch.device:
    """The device itself, or the host for Apple's, which has no double precision."""
    return torch.device("cpu") if device.type == "mps" else device


def _standard_error_of_mean(values: Tensor) -> Tensor:
    """Standard error of the mean of the values [n] that are not NaN; NaN for fewer than two."""
    values = values[~values.isnan()]
    return values.std() / len(values) ** 0.5 if len(values) > 1 else values.new_tensor(float("nan"))
