"""Instance segmentation of clips: every thing keeps its colour through the frames."""

from lavindit.metrics import InstanceMetric, JoinedMetric, VideoMaskMetric
from lavindit.task import Column, InstanceTask


class VideoInstanceSegmentation(InstanceTask):
    """Give every thing of a clip a colour that it keeps."""

    name = "video_instance_segmentation"
    version = 1
    summary = "Give every thing of a clip a colour that it keeps, from left to right as the pairs show."
    modality = "video"
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

    def make_metric(self) -> JoinedMetric:
        """J&F and AP."""
        return JoinedMetric(VideoMaskMetric(), InstanceMetric(by_class=False))
