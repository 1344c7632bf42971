"""Instance segmentation of clips: every thing keeps its colour through the frames."""

from collections.abc import Sequence

import torch

from lavindit.codecs import PaletteCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import InstanceMetric, JoinedMetric, VideoMaskMetric
from lavindit.task import Column, Task
from lavindit.task.segments import has_things, number_things
from lavindit.types import Pair, Scene


class VideoInstanceSegmentation(Task):
    """Give every thing of a clip a colour that it keeps."""

    name = "video_instance_segmentation"
    version = 1
    summary = "Give every thing of a clip a colour that it keeps, from left to right as the pairs show."
    modality = "video"
    requires = frozenset({"instance_ids"})
    columns = (
        Column("j_and_f", "%", "max", headline=True),
        Column("j", "%", "max"),
        Column("f", "%", "max"),
        Column("ap", "%", "max"),
        Column("ap50", "%", "max"),
    )
    protocol = (
        "J (IoU) and F (boundary) of each thing in each frame, things paired one to one for the best J&F; mask AP with "
        "a thing as one volume in space and time, ranked by size. All frames count. Things of fewer than 16 px over "
        "the whole clip are invalid."
    )
    citation = "Protocol: Perazzi et al., CVPR 2016 (DAVIS); Yang et al., ICCV 2019 (video AP)."

    def accepts(self, scene: Scene) -> bool:
        """Only clips with a thing."""
        return has_things(scene)

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """A palette with a colour for each thing of the fullest clip."""
        return PaletteCodec(max(int(number_things(scene)[0].max()) for scene in scenes), generator)

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Clip and numbered things."""
        ids, valid = number_things(scene)
        return Pair(scene.rgb, codec.encode(ids, valid), ids.float(), valid)

    def make_metric(self) -> JoinedMetric:
        """J&F and AP."""
        return JoinedMetric(VideoMaskMetric(), InstanceMetric(by_class=False))
