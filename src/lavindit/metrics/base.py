"""The base of every metric: one row a sample, so that figures carry their n and their standard error."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lavindit.errors import LavinditError


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
        jackknife_groups: How many times a pooled figure is reduced for its error. Each reduction takes all rows, so
            leaving out every sample once is too slow; the error is uncertain by about 1 / sqrt(2 * groups).
    """

    names: tuple[str, ...]
    units: tuple[str, ...] = ()
    ideals: tuple[float, ...] = ()
    width: ClassVar[int] = 0
    jackknife_groups: ClassVar[int] = 32
    full_state_update = False
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        # Rows are kept flat, and the metric in double precision, because a process that saw no sample hands
        # torchmetrics an empty 1-D tensor of the metric's dtype, which must gather with the others' rows.
        self.set_dtype(torch.float64)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def only(self, name: str) -> "RowMetric":
        """A metric with the figure `name`, new where one can do without what the others take; else this one.

        Raises:
            ValueError: There is no such figure.
        """
        if name not in self.names:
            raise ValueError(f"{type(self).__name__} has no figure {name!r}")
        return self

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
        # A test may run in bf16; convolutions of a metric may not.
        with torch.autocast(device.type, enabled=False):
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
        """Standard error of each figure over samples; a jackknife, so it holds for pooled figures too.

        Samples that leave a figure undefined do not count; NaN where fewer than two define it.
        """
        return self.standard_error_of(self.unique_rows())

    def standard_error_of(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows [n, width] -> standard error by name, as in `standard_error`.

        Pooled figures leave out one of `jackknife_groups` groups at a time, of equal size and drawn at random, scaled
        so that the variance of a mean is unbiased. Up to so many samples a group is one sample: the plain jackknife.

        Source: Shao and Wu, "A General Theory for Jackknife Variance Estimation", Annals of Statistics 1989.
        """
        if type(self).reduce is RowMetric.reduce:  # the jackknife of a mean has a closed form
            return {name: _standard_error_of_mean(rows[:, i]) for i, name in enumerate(self.names)}
        rows = rows[~rows.isnan().all(dim=1)]
        if len(rows) < 2:
            return {name: torch.tensor(float("nan"), dtype=torch.float64) for name in self.names}
        return _grouped_jackknife(self.reduce, rows, min(len(rows), self.jackknife_groups))

    def error_of_difference(self, one: Sequence[Tensor], other: Sequence[Tensor]) -> dict[str, Tensor]:
        """Standard error of the difference of two figures of the same samples, each a mean over draws; a jackknife.

        What makes all answers to a sample good or bad counts in both figures and not in their difference, which is
        known better than the errors of the two say.

        Args:
            one: Rows [n, width] of each draw, as `unique_rows` has them.
            other: Those of the other figure.
        """
        width, count = self._row_width(), len(one)

        def differences(rows: Tensor) -> dict[str, Tensor]:
            draws = [self.reduce(part) for part in rows.split(width, 1)]
            means = [{n: torch.stack([d[n] for d in part]).mean() for n in self.names}
                for part in (draws[:count], draws[count:])]  # fmt: skip
            return {name: means[0][name] - means[1][name] for name in self.names}

        rows = torch.cat([*one, *other], 1)
        if len(rows) < 2:
            return {name: torch.tensor(float("nan"), dtype=torch.float64) for name in self.names}
        return _grouped_jackknife(differences, rows, min(len(rows), self.jackknife_groups))

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


def check_figures(asked: Sequence[str], known: Sequence[str]) -> None:
    """Check that the figures that are asked for exist, and that each is asked for once.

    Raises:
        LavinditError: One does not exist, one comes twice, or there is none.
    """
    if isinstance(asked, str) or not asked:
        raise LavinditError(f"figures must be a list of {', '.join(known)}; got {asked!r}")
    for i, name in enumerate(asked):
        if name not in known:
            raise LavinditError(f"no figure is called {name!r}{suggest(name, known)}")
        if name in asked[:i]:
            raise LavinditError(f"the figure {name!r} is asked for twice")


def suggest(name: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown name: the closest known one, or all of them."""
    close = get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(sorted(known))}" if known else "; it has none"


def _double_device(device: torch.device) -> torch.device:
    """The device itself, or the host for Apple's, which has no double precision."""
    return torch.device("cpu") if device.type == "mps" else device


def _standard_error_of_mean(values: Tensor) -> Tensor:
    """Standard error of the mean of the values [n] that are not NaN; NaN for fewer than two."""
    values = values[~values.isnan()]
    return values.std() / len(values) ** 0.5 if len(values) > 1 else values.new_tensor(float("nan"))


def _grouped_jackknife(reduce: Callable[[Tensor], dict[str, Tensor]], rows: Tensor, groups: int) -> dict[str, Tensor]:
    """Standard error of every figure that `reduce` makes of n >= 2 rows [n, width]."""
    n, size = len(rows), len(rows) // groups
    # At random, because samples often come in an order, or a rhythm, of classes; of equal size, because some figures
    # (FID) depend on the number of samples. Those that are left over are in all groups' complements.
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    kept = torch.ones(groups, n, dtype=torch.bool)
    kept[torch.arange(groups).repeat_interleave(size), order[: groups * size]] = False
    left_out = [reduce(rows[keep]) for keep in kept]
    # Each value misses `size` samples of n, so the values lie closer together than figures of separate sets.
    scale = (n - size) * (groups / (n * size)) ** 0.5
    return {
        name: scale * _standard_error_of_mean(torch.stack([figures[name] for figures in left_out]).double())
        for name in left_out[0]
    }
