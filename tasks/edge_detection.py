"""Edge detection: Canny edges by example."""

from collections.abc import Sequence

import torch
from skimage.feature import canny

from lavindit.codecs import MaskCodec
from lavindit.codecs.base import Codec
from lavindit.data.degradations import grayscale
from lavindit.metrics import EdgeMetric
from lavindit.task import Column, Task
from lavindit.types import Pair, Scene


class EdgeDetection(Task):
    """Draw the Canny edges of a picture, white on black."""

    name = "edge_detection"
    version = 1
    summary = "Draw the Canny edges of a picture, white on black."
    pictures = "edges"
    columns = (Column("f_score", "1", "max", headline=True), Column("mse", "1", "min"))
    protocol = (
        "Truth: Canny on BT.601 luma, sigma 1, thresholds 0.1 and 0.2. "
        "F-score of the answer above 0.5, tolerance 1 px. "
        "Where edges are dense an all-white picture scores well (0.55 on the embedded world): read the MSE beside it."
    )

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """White edges on black."""
        return MaskCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture and its edges."""
        frames = grayscale(scene.rgb)[0].numpy()
        edges = [torch.from_numpy(canny(frame, sigma=1.0, low_threshold=0.1, high_threshold=0.2)) for frame in frames]
        native = torch.stack(edges)[None].float()
        valid = torch.ones_like(native, dtype=torch.bool)
        return Pair(scene.rgb, codec.encode(native, valid), native, valid)

    def make_metric(self) -> EdgeMetric:
        """F-score and MSE."""
        return EdgeMetric()
