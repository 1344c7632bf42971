"""Depth estimation in clips."""

from lavindit.task import DepthTask


class VideoDepthEstimation(DepthTask):
    """Depth of every pixel of a clip."""

    name = "video_depth_estimation"
    version = 1
    summary = "Depth of every pixel of a clip: near is dark, far is bright."
    modality = "video"
    protocol = (
        "Each answer is aligned to its truth by one least-squares scale and shift for the whole clip, over valid "
        "pixels. Sky is invalid."
    )
    citation = "Protocol: Ranftl et al., TPAMI 2022 (alignment); Eigen et al., NeurIPS 2014 (errors)."
