"""Surface normal estimation."""

from lavindit.task import NormalTask


class NormalEstimation(NormalTask):
    """Surface normal of every pixel from one picture."""

    name = "normal_estimation"
    version = 1
    summary = "Surface normal of every pixel, in camera space: x right is red, y up is green, z to the camera is blue."
    protocol = (
        "Angle between answer and truth over valid pixels, averaged over pixels, then over queries. Sky is invalid."
    )
    citation = "Protocol: Fouhey et al., ICCV 2013."
