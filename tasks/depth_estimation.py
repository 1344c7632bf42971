"""Monocular depth estimation."""

from lavindit.task import DepthTask


class DepthEstimation(DepthTask):
    """Depth of every pixel from one picture."""

    name = "depth_estimation"
    version = 1
    summary = "Depth of every pixel from one picture: near is dark, far is bright."
    protocol = "Each answer is aligned to its truth by least-squares scale and shift over valid pixels. Sky is invalid."
    citation = "Protocol: Ranftl et al., TPAMI 2022 (alignment); Eigen et al., NeurIPS 2014 (errors)."
