"""What a VAE's reconstructions are scored with: one scorer for each kind of picture, one for each task's codec."""

from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from lavindit.inference.block_pca import BlockPCA
from lavindit.metrics import InstanceQualityMetric, JoinedMetric, PictureMetric, RowMetric, TemporalMetric
from lavindit.metrics.functional.pictures import psnr_db
from lavindit.metrics.networks import available
from lavindit.pictures import save_picture
from lavindit.report.figure import CODEC, PCA_MIXTURE, PCA_OWN, Figure
from lavindit.report.schema import ModalityResult, Reconstruction, TaskResult
from lavindit.task import Column, InstanceTask, Task
from lavindit.training.vae_pictures import Kind
from lavindit.types import Episode

ERROR_GAIN = 4.0
PICTURES = "pictures"
STRIP_STEP = 3  # every third frame of a clip is shown, so that 13 make a strip of five that can be read
FID_PICTURES = 1000
"""Pictures that rFID wants; the covariance of fewer says little (2048 features), and each costs a pass of Inception."""
INSTANCE_COLUMNS = (Column("pq", "%", "max"), Column("sq", "%", "max"), Column("rq", "%", "max"))


class ModalityScorer:
    """Collects the pictures of one kind and what the VAE makes of them.

    Args:
        kind: What they are.
        mixture: Principal components of the mixture's training pictures, if there are any.
        own: Those of this kind's.
        with_fid: Measure rFID, too, where the weights are there.

    Attributes:
        tasks: The tasks whose pictures they are.
        pictures: Those that the report shows.
    """

    def __init__(self, kind: Kind, mixture: BlockPCA | None, own: BlockPCA | None, with_fid: bool) -> None:
        self.kind = kind
        self.tasks: list[str] = []
        self.pictures: list[Reconstruction] = []
        fitted = {PCA_MIXTURE: mixture, PCA_OWN: own}
        self.codes = {name: code for name, code in fitted.items() if code is not None}
        perceptual = "lpips" if available("lpips") else "lpips_proxy"
        self.metric = self._metric("psnr", "ssim", perceptual, *(["fid"] if with_fid else []))
        self.rivals = {name: self._metric("psnr", "ssim") for name in self.codes}
        self._seen: set[int] = set()

    def _metric(self, *figures: str) -> JoinedMetric:
        parts: list[RowMetric] = [PictureMetric(figures)]
        return JoinedMetric(*parts, *([TemporalMetric()] if self.kind.frames > 1 else []))

    def knows(self, picture: Tensor) -> bool:
        """Whether this process has scored such a picture already."""
        return _number_of(picture) in self._seen

    def update(self, picture: Tensor, rebuilt: Tensor) -> None:
        """Add a picture [3, T, H, W] and what became of it; the same picture counts once, in all processes."""
        number = _number_of(picture)
        if number in self._seen:
            return
        self._seen.add(number)
        everywhere = torch.ones_like(picture[:1], dtype=torch.bool)
        self.metric.update(rebuilt, picture, everywhere, number)
        for name, code in self.codes.items():
            self.rivals[name].update(code.reconstruct(picture), picture, everywhere, number)

    def add_picture(self, picture: Tensor, rebuilt: Tensor, sample_id: str, run: Path) -> None:
        """Write a picture, the rebuilt one and their difference as PNG files, and show them in the report."""
        name = self.kind.modality.replace(" ", "_").replace(",", "")
        stem = f"{PICTURES}/{name}_{self.kind.frames}_{len(self.pictures)}"
        error = (rebuilt - picture).abs()
        parts = {"truth": picture, "rebuilt": rebuilt, "error": error * ERROR_GAIN}
        paths = {part: f"{stem}_{part}.png" for part in parts}
        for part, shown in parts.items():
            save_picture(shown[:, ::STRIP_STEP], run / paths[part])
        psnr = float(psnr_db(rebuilt, picture, torch.ones_like(picture[:1], dtype=torch.bool)))
        self.pictures.append(Reconstruction(**paths, sample_id=sample_id, psnr=psnr, gain=ERROR_GAIN))

    def result(self) -> ModalityResult:
        """The modality's part of the report; every process must make it."""
        found, errors, n = self.metric.compute(), self.metric.standard_error(), len(self.metric.unique_rows())
        rivals = {name: metric.compute() for name, metric in self.rivals.items()}
        figures = []
        for name, unit, ideal in zip(self.metric.names, self.metric.units, self.metric.ideals, strict=True):
            if name == "fid" and n < FID_PICTURES:
                continue
            error = float(errors[name])
            figures.append(
                Figure(
                    metric="rfid" if name == "fid" else name,
                    unit=unit,
                    direction="max" if ideal else "min",
                    headline=name == "psnr",
                    answer=float(found[name]),
                    stderr=error,
                    std=None if name == "fid" else error * n**0.5,
                    baselines={rival: float(values[name]) for rival, values in rivals.items() if name in values},
                )
            )
        return ModalityResult(self.kind.modality, self.kind.frames, n, figures, self.pictures, self.tasks)


class CodecScorer:
    """Scores a task's targets through the VAE in native units, beside the codec alone.

    Both are decoded from float pictures, so that their difference is the latent space's doing. Tasks whose answers are
    instances get panoptic quality, too, which needs no ranking: AP ranks by area, as a picture holds no scores.

    Args:
        task: The task.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.columns = task, list(task.measured)
        if isinstance(task, InstanceTask):
            self.columns += INSTANCE_COLUMNS
        self.through, self.floor = self._metric(), self._metric()
        self.is_coded, self.n, self.seconds = True, 0, 0.0

    def _metric(self) -> RowMetric:
        metric = self.task.make_metric()
        return JoinedMetric(metric, InstanceQualityMetric()) if isinstance(self.task, InstanceTask) else metric

    def update(self, episode: Episode, rebuilt: Tensor, seconds: float) -> None:
        """Add the target of an episode through the VAE, a picture [3, T, H, W], and the time that took."""
        query, codec = episode.query, episode.codec
        truth = (query.native, query.valid, episode.number, query.meta)
        self.through.update(codec.decode(rebuilt), *truth)
        self.floor.update(codec.decode(query.target), *truth)
        self.is_coded = codec.name != "identity"
        self.n, self.seconds = self.n + 1, self.seconds + seconds

    def result(self) -> TaskResult:
        """The task's part of the report; every process must make it."""
        found, errors, floor = self.through.compute(), self.through.standard_error(), self.floor.compute()
        figures = [
            Figure(
                metric=column.metric,
                unit=column.unit,
                direction=column.direction,
                headline=column.headline,
                answer=float(found[column.metric]),
                stderr=float(errors[column.metric]),
                baselines={CODEC: float(floor[column.metric])} if self.is_coded else {},
            )
            for column in self.columns
        ]
        return TaskResult(
            task=self.task.name,
            version=self.task.version,
            summary=self.task.summary,
            held_out=self.task.held_out,
            n=len(self.through.unique_rows()),
            pairs=0,
            seconds_per_query=self.seconds / max(self.n, 1),
            figures=figures,
            protocol=self.task.protocol,
        )


def _number_of(picture: Tensor) -> int:
    """A number of 48 bits that stands for what a picture shows."""
    return int.from_bytes(sha256(picture.contiguous().numpy().tobytes()).digest()[:6], "big")
