"""Pictures against the true picture, in the figures that a task asks for."""

from collections.abc import Sequence

from lavindit.errors import LavinditError
from lavindit.metrics import networks
from lavindit.metrics.base import RowMetric, check_figures
from lavindit.metrics.joined import JoinedMetric
from lavindit.metrics.perceptual import DistributionMetric, PerceptualMetric, PerceptualProxyMetric
from lavindit.metrics.restoration import RestorationMetric

# Every figure of a picture, and whose weights it needs; see `lavindit.metrics.networks`.
PICTURE_FIGURES = {
    "psnr": "",
    "ssim": "",
    "mse": "",
    "lpips": "lpips",
    "lpips_proxy": "perceptual",
    "fid": "inception",
    "kid": "inception",
}


class PictureMetric(JoinedMetric):
    """The figures of pictures that a task asks for, without those whose weights are not on this machine.

    Args:
        figures: Of `PICTURE_FIGURES`, in the order of the result.

    Attributes:
        left_out: Figures that were asked for and are not measured; `networks.remedy` says what their weights take.

    Raises:
        LavinditError: There is no such figure, one is asked for twice, or none can be measured.
    """

    def __init__(self, figures: Sequence[str] = ("psnr", "ssim", "mse")) -> None:
        check_figures(figures, list(PICTURE_FIGURES))
        measured = [name for name in figures if networks.available(PICTURE_FIGURES[name])]
        if not measured:
            raise LavinditError(networks.remedy(PICTURE_FIGURES[figures[0]]))
        super().__init__(*_parts(measured))
        units = dict(zip(self.names, self.units, strict=True))
        ideals = dict(zip(self.names, self.ideals, strict=True))
        self.names = tuple(measured)
        self.units, self.ideals = tuple(units[name] for name in measured), tuple(ideals[name] for name in measured)
        self.left_out = tuple(name for name in figures if name not in measured)


def _parts(figures: Sequence[str]) -> list[RowMetric]:
    """The metrics that measure these figures."""
    parts: list[RowMetric] = []
    if pixels := [name for name in figures if name in RestorationMetric.measures]:
        parts.append(RestorationMetric(pixels))
    if "lpips" in figures:
        parts.append(PerceptualMetric())
    if "lpips_proxy" in figures:
        parts.append(PerceptualProxyMetric())
    if sets := [name for name in figures if name in DistributionMetric.measures]:
        parts.append(DistributionMetric(sets))
    return parts
