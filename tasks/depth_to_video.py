"""A clip from its depth."""

from torch import Tensor

from lavindit.codecs import DepthCodec
from lavindit.task import GenerationTask
from lavindit.task.estimation import depth_of
from lavindit.types import Scene


class DepthToVideo(GenerationTask):
    """Paint the clip that depth maps were taken from."""

    name = "depth_to_video"
    version = 1
    summary = "Paint the clip that depth maps were taken from."
    modality = "video"
    requires = frozenset({"depth_m"})
    protocol = (
        "Truth: the scene's own clip, one of many that fit. LPIPS leads where its weights are at hand, otherwise its "
        "proxy, otherwise SSIM, each a mean over frames. FID and KID judge the set of all answers."
    )
    citation = "Wang et al., LaVin-DiT, CVPR 2025."

    def draw(self, scene: Scene) -> Tensor:
        """Depth as gray, frame by frame."""
        return DepthCodec().encode(*depth_of(scene))
