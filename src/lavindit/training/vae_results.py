"""What the test of a VAE leaves behind: what the latent space costs each kind of picture, and each codec."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lavindit.data import EpisodeData
from lavindit.data.sources import photos_of
from lavindit.inference.block_pca import BlockPCA
from lavindit.metrics.networks import available
from lavindit.pictures import center_square
from lavindit.report.schema import RESULT_NAME, write_result
from lavindit.training.results import describe_test, is_held_out
from lavindit.training.vae_pictures import (
    PHOTOS,
    WHOLE_PHOTOS,
    Kind,
    fit_baselines,
    fit_photographs,
    input_kind,
    target_kind,
)
from lavindit.training.vae_scorers import FID_PICTURES, CodecScorer, ModalityScorer
from lavindit.types import EpisodeBatch

if TYPE_CHECKING:
    from lavindit.training.base import TrainedModule

Rebuild = Callable[[Tensor], Tensor]
"""Pictures [B, 3, T, H, W] in [0, 1] -> the same through the VAE."""

PHOTO_CROPS, PHOTO_BATCH = 64, 16


def ask_alone(data: EpisodeData) -> None:
    """Make a test show no pairs and ask once: a VAE rebuilds pictures, whatever stands beside them."""
    data.eval_pairs, data.context, data.context_draws = 0, "random", 1


class VAERecorder:
    """Collects what the VAE makes of a test's pictures, and writes result.json.

    Args:
        module: The module under test, attached to its trainer.
        strips: Pictures of a kind that are shown.
        pca_pictures: About how many training pictures the principal components are fitted on; each process fits them.
    """

    def __init__(self, module: "TrainedModule", strips: int = 3, pca_pictures: int = 2000) -> None:
        self.module, self.strips, self.pca_pictures = module, strips, pca_pictures
        self.data: EpisodeData = module.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        self.run = Path(module.trainer.default_root_dir)
        self.components = module.averaged().config.latent_channels
        self.baselines = fit_baselines(self.data, self.components, pca_pictures)
        self.photos_pca = fit_photographs(self.data.source, self.components, max(1, pca_pictures // 4))
        self.tasks = {task.name: CodecScorer(task) for task in self.data.tasks}
        samples = self.data.test_samples
        self.with_fid = samples is None or samples >= FID_PICTURES
        # From the training pictures, so that every process has the same: they reduce their metrics together.
        kinds = {kind for found in self.baselines.kinds.values() for kind in found}
        self.scorers = {kind: self._scorer(kind, self.baselines.own.get(kind)) for kind in kinds}
        for task, found in self.baselines.kinds.items():
            for kind in found:
                self.scorers[kind].tasks.append(task)

    def _scorer(self, kind: Kind, own: BlockPCA | None) -> ModalityScorer:
        return ModalityScorer(kind, self.baselines.mixture, own, self.with_fid)

    def record(self, batch: EpisodeBatch, rebuild: Rebuild) -> None:
        """Score the queries' inputs and targets of a batch, which is of one task."""
        start = time.perf_counter()
        rebuilt = rebuild(batch.targets[:, -1]).float().cpu()
        seconds = (time.perf_counter() - start) / len(batch)
        task = self.tasks[batch.tasks[0]].task
        for place, episode in enumerate(batch.episodes):
            answer = rebuilt[place]
            self.tasks[task.name].update(episode, answer, seconds)
            kind = target_kind(task, episode.codec, episode.query.target)
            self._add(self.scorers[kind], episode.query.target, answer, f"{episode.sample_id}: target")
        kind = input_kind(task, batch.episodes[0])
        if kind is not None:
            self._record_inputs(batch, self.scorers[kind], rebuild)

    def _record_inputs(self, batch: EpisodeBatch, scorer: ModalityScorer, rebuild: Rebuild) -> None:
        # Most tasks are shown the same scenes.
        new = [i for i, episode in enumerate(batch.episodes) if not scorer.knows(episode.query.input)]
        if new:
            for place, answer in zip(new, rebuild(batch.inputs[new, -1]).float().cpu(), strict=True):
                episode = batch.episodes[place]
                self._add(scorer, episode.query.input, answer, f"{episode.sample_id}: input")

    def record_photographs(self, rebuild: Rebuild) -> None:
        """Score crops of the test photographs and, where a folder of them is named, each one's central square."""
        source = self.data.source
        photos = photos_of(source, "test")
        crops = min(self.data.test_samples or PHOTO_CROPS, len(photos))
        shown = {PHOTOS: [(scene.scene_id, scene.rgb) for scene in (photos[i] for i in range(crops))]}
        if source.photos:
            shown[WHOLE_PHOTOS] = [
                (name, center_square(photo.float() / 255, source.resolution)) for name, photo in photos.photos
            ]
        rank, processes = self.module.global_rank, self.module.trainer.world_size
        for modality, pictures in shown.items():
            scorer = self._scorer(Kind(1, modality), self.photos_pca)
            self.scorers[scorer.kind] = scorer
            own = pictures[rank::processes]
            for first in range(0, len(own), PHOTO_BATCH):
                part = own[first : first + PHOTO_BATCH]
                batch = torch.stack([picture for _, picture in part]).to(self.module.device)
                for (name, picture), answer in zip(part, rebuild(batch), strict=True):
                    self._add(scorer, picture, answer.float().cpu(), name)

    def _add(self, scorer: ModalityScorer, picture: Tensor, rebuilt: Tensor, sample_id: str) -> None:
        shows = self.module.global_rank == 0 and len(scorer.pictures) < self.strips and not scorer.knows(picture)
        scorer.update(picture, rebuilt)
        if shows:
            scorer.add_picture(picture, rebuilt, sample_id, self.run)

    def write(self) -> None:
        """Write result.json; every process takes part in reducing the metrics, the first one writes."""
        tasks = [
            replace(scorer.result(), held_out=is_held_out(self.module, scorer.task)) for scorer in self.tasks.values()
        ]
        modalities = [self.scorers[kind].result() for kind in sorted(self.scorers, key=lambda kind: kind.rank)]
        if self.module.global_rank != 0:
            return
        settings = {
            "mode": "the VAE alone: pictures through the mean of the posterior and back",
            "principal_components": {
                "components": self.components,
                "training_pictures": self.baselines.pictures,
                "tasks": self.baselines.tasks,
            },
        }
        result = describe_test(self.module, settings, tasks)
        write_result(
            replace(result, modalities=modalities, notes=[*result.notes, *self._notes()]), self.run / RESULT_NAME
        )

    def _notes(self) -> list[str]:
        """What the tables of modalities lack, and why."""
        notes = []
        if not available("lpips"):
            stand_in = "its proxy stands in" if available("perceptual") else "its proxy neither"
            notes.append(f"LPIPS of the modalities is not measured, {stand_in}: docs/metrics.md tells which weights.")
        if not (available("inception") and self.with_fid):
            lack = [] if available("inception") else ["Inception's weights"]
            lack += [] if self.with_fid else [f"{FID_PICTURES} pictures of a kind (data.test_samples)"]
            notes.append(f"rFID is not measured: it needs {' and '.join(lack)}.")
        return notes
