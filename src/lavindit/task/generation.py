"""Tasks that turn a drawn truth (depth, normals, a skeleton) back into the picture it was taken from."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lavindit.codecs import IdentityCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import PictureMetric
from lavindit.task.contract import Column, Task
from lavindit.types import Pair, Scene


class GenerationTask(Task):
    """Base of the generation tasks: `draw` makes the input from a scene's truth, the answer is the scene's picture.

    Many pictures fit one drawing, so the perceptual distance leads where it can be measured; FID and KID judge the
    answers as a set.
    """

    columns = (
        Column("lpips", "1", "min", headline=True, needs="lpips"),
        Column("lpips_proxy", "1", "min", needs="perceptual"),
        Column("ssim", "1", "max"),
        Column("psnr", "dB", "max"),
        Column("fid", "1", "min", needs="inception"),
        Column("kid", "1", "min", needs="inception"),
    )
    protocol = (
        "Truth: the scene's own picture, one of many that fit. LPIPS leads where its weights are at hand, otherwise "
        "its proxy, otherwise SSIM; of clips they are means over frames. FID and KID judge the set of all answers."
    )
    citation = "Wang et al., LaVin-DiT, CVPR 2025."

    @abstractmethod
    def draw(self, scene: Scene) -> Tensor:
        """The input [3, T, H, W] drawn from the truth of a scene."""

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """Pictures are their own native."""
        return IdentityCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Drawing and picture."""
        valid = torch.ones_like(scene.rgb[:1], dtype=torch.bool)
        return Pair(self.draw(scene), codec.encode(scene.rgb, valid), scene.rgb, valid)

    def make_metric(self) -> PictureMetric:
        """Perceptual distance, fidelity, and distance between the sets of answers and truths."""
        return PictureMetric(tuple(column.metric for column in self.measured))
