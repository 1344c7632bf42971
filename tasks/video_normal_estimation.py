"""Surface normal estimation in clips."""

from lavindit.task import NormalTask


class VideoNormalEstimation(NormalTask):
    """Surface normal of every pixel of a clip."""

    name = "video_normal_estimation"
    version = 1
    summary = "Surface normal of every pixel of a clip, in camera space: x red, y green, z blue."
    modality = "video"
    protocol = (
        "Angle between answer and truth over the valid pixels of all frames, averaged over pixels, then over clips. "
        "Sky is invalid."
    )
    citation = "Protocol: Fouhey et al., ICCV 2013."
