"""How alike pictures look to a network: one by one, and as two sets."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.metrics import networks
from lavindit.metrics.base import RowMetric, check_figures
from lavindit.metrics.functional.perceptual import (
    comparable_frames,
    frechet_distance,
    kernel_distance,
    perceptual_distance,
    picture_features,
)

FEATURES = 2048


class PerceptualMetric(RowMetric):
    """LPIPS, of AlexNet; mean over the frames that have valid pixels, then over samples.

    Raises:
        LavinditError: AlexNet's weights are not on this machine.
    """

    names = ("lpips",)
    units = ("1",)
    ideals = (0.0,)
    network: ClassVar[str] = "lpips"
    smallest_px: ClassVar[int] = 31

    def __init__(self) -> None:
        super().__init__()
        if not networks.available(self.network):
            raise LavinditError(networks.remedy(self.network))

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """RGB in [0, 1] [3, T, H, W] -> [1]; see `perceptual_distance`."""
        network = networks.load(self.network, answer.device)
        return perceptual_distance(answer, truth, valid, network, self.smallest_px)[None]


class PerceptualProxyMetric(PerceptualMetric):
    """Stands in for LPIPS: LPIPS's VGG heads over another VGG16 than the one they were made for.

    It orders pictures much as LPIPS does, and its figures are not LPIPS: compare them with one another only.

    Raises:
        LavinditError: `LAVINDIT_PERCEPTUAL` names no file.
    """

    names = ("lpips_proxy",)
    network = "perceptual"
    smallest_px = 16


class DistributionMetric(RowMetric):
    """How far the answers lie from the truths as two sets of Inception features: FID and KID.

    A row keeps the features of answer and truth, 2048 each: for a clip their means over the frames that have valid
    pixels, so that a sample is one point of each set. Both need two samples; FID of few samples is too large, and is
    compared at equal n only.

    Args:
        figures: "fid", "kid" or both.

    Raises:
        LavinditError: The weights of Inception are not on this machine, or there is no such figure.
    """

    jackknife_groups = 10
    measures: ClassVar[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
        "fid": frechet_distance,
        "kid": kernel_distance,
    }

    def __init__(self, figures: Sequence[str] = ("fid", "kid")) -> None:
        super().__init__()
        check_figures(figures, list(self.measures))
        if not networks.available("inception"):
            raise LavinditError(networks.remedy("inception"))
        self.names = tuple(figures)
        self.units, self.ideals = ("1",) * len(self.names), (0.0,) * len(self.names)

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """RGB in [0, 1] [3, T, H, W] -> [4096]; NaN without a valid pixel. See `comparable_frames`."""
        answers, truths = comparable_frames(answer, truth, valid)
        if len(truths) == 0:
            return truth.new_full((self._row_width(),), float("nan"))
        network = networks.load("inception", answer.device)
        return torch.cat([picture_features(frames, network) for frames in (answers, truths)])

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows [n, 4096] -> figure by name; NaN for fewer than two samples."""
        answers, truths = rows[~rows.isnan().any(dim=1)].split(FEATURES, dim=1)
        return {name: self.measures[name](answers, truths) for name in self.names}

    def _row_width(self) -> int:
        return 2 * FEATURES
