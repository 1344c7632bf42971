"""Frame prediction: how a picture goes on."""

from collections.abc import Sequence

import torch

from lavindit.codecs import IdentityCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import PictureMetric
from lavindit.task import Column, Task
from lavindit.types import Pair, Scene


class FramePrediction(Task):
    """The twelve frames that follow a picture."""

    name = "frame_prediction"
    version = 1
    summary = "The twelve frames that follow a picture."
    modality = "video"
    restores = True
    columns = (
        Column("psnr", "dB", "max", headline=True),
        Column("ssim", "1", "max"),
        Column("lpips", "1", "min", needs="lpips"),
        Column("lpips_proxy", "1", "min", needs="perceptual"),
    )
    protocol = (
        "The answer has 13 frames, the first of them the query; the other 12 are scored, each figure a mean over "
        "frames. The unchanged query stands still for 12 frames. FVD is not measured: its network is not at hand."
    )
    citation = "Wang et al., LaVin-DiT, CVPR 2025."

    @property
    def input_frames(self) -> int:
        """The first frame alone."""
        return 1

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """Pictures are their own native."""
        return IdentityCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """First frame and clip."""
        valid = torch.ones_like(scene.rgb[:1], dtype=torch.bool)
        target = codec.encode(scene.rgb, valid)
        valid[:, 0] = False
        return Pair(scene.rgb[:, :1], target, scene.rgb, valid)

    def make_metric(self) -> PictureMetric:
        """Fidelity over the frames that follow."""
        return PictureMetric(tuple(column.metric for column in self.measured))
