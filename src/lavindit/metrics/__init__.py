"""Metrics: pure functions in `functional`, and one thin class a field that keeps a row a sample."""

import inspect
from collections.abc import Callable
from typing import Any

from lavindit.errors import LavinditError
from lavindit.metrics.base import RowMetric, suggest
from lavindit.metrics.boxes import BoxMetric
from lavindit.metrics.depth import DepthMetric
from lavindit.metrics.edges import EdgeMetric
from lavindit.metrics.flow import FlowMetric
from lavindit.metrics.foreground import ForegroundMetric
from lavindit.metrics.instances import DetectionMetric, InstanceMetric
from lavindit.metrics.joined import JoinedMetric
from lavindit.metrics.keypoints import KeypointMetric
from lavindit.metrics.normals import NormalMetric
from lavindit.metrics.panoptic import InstanceQualityMetric, PanopticMetric
from lavindit.metrics.perceptual import DistributionMetric, PerceptualMetric, PerceptualProxyMetric
from lavindit.metrics.pictures import PICTURE_FIGURES, PictureMetric
from lavindit.metrics.restoration import RestorationMetric
from lavindit.metrics.temporal import TemporalMetric
from lavindit.metrics.video_masks import VideoMaskMetric

__all__ = [
    "METRICS",
    "PICTURE_FIGURES",
    "BoxMetric",
    "DepthMetric",
    "DetectionMetric",
    "DistributionMetric",
    "EdgeMetric",
    "FlowMetric",
    "ForegroundMetric",
    "InstanceMetric",
    "InstanceQualityMetric",
    "JoinedMetric",
    "KeypointMetric",
    "NormalMetric",
    "PanopticMetric",
    "PerceptualMetric",
    "PerceptualProxyMetric",
    "PictureMetric",
    "RestorationMetric",
    "RowMetric",
    "TemporalMetric",
    "VideoMaskMetric",
    "get_metric",
]

METRICS: dict[str, Callable[..., RowMetric]] = {
    "boxes": BoxMetric,
    "depth": DepthMetric,
    "distribution": DistributionMetric,
    "edges": EdgeMetric,
    "flow": FlowMetric,
    "foreground": ForegroundMetric,
    "instance_quality": InstanceQualityMetric,
    "instances": InstanceMetric,
    "keypoints": KeypointMetric,
    "normals": NormalMetric,
    "panoptic": PanopticMetric,
    "perceptual": PerceptualMetric,
    "perceptual_proxy": PerceptualProxyMetric,
    "pictures": PictureMetric,
    "restoration": RestorationMetric,
    "temporal": TemporalMetric,
    "video_masks": VideoMaskMetric,
}


def get_metric(name: str, **options: Any) -> RowMetric:
    """A fresh metric of that name, built with its options.

    Args:
        name: Key of `METRICS`.
        options: Arguments of the metric, e.g. `figures` of "pictures" or `things` of "panoptic".

    Raises:
        LavinditError: For a name or an option that does not exist (the message names the closest one that does), an
            option that is lacking, or a value that the metric refuses.
    """
    if name not in METRICS:
        raise LavinditError(f"no metric is called {name!r}{suggest(name, list(METRICS))}")
    known = inspect.signature(METRICS[name]).parameters
    for option in options:
        if option not in known:
            raise LavinditError(f"metric {name!r} has no option {option!r}{suggest(option, list(known))}")
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in options:
            raise LavinditError(f"metric {name!r} needs the option {option!r}")
    try:
        return METRICS[name](**options)
    except (TypeError, ValueError) as error:
        raise LavinditError(f"metric {name!r} cannot take {options}: {error}") from error
