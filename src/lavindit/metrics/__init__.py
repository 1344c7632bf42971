"""Metrics: pure functions in `functional`, and one thin class a field that keeps a row a sample."""

from lavindit.metrics.base import RowMetric
from lavindit.metrics.boxes import BoxMetric
from lavindit.metrics.depth import DepthMetric
from lavindit.metrics.edges import EdgeMetric
from lavindit.metrics.flow import FlowMetric
from lavindit.metrics.foreground import ForegroundMetric
from lavindit.metrics.instances import DetectionMetric, InstanceMetric
from lavindit.metrics.keypoints import KeypointMetric
from lavindit.metrics.normals import NormalMetric
from lavindit.metrics.panoptic import PanopticMetric
from lavindit.metrics.restoration import RestorationMetric
from lavindit.metrics.video_masks import VideoMaskMetric

__all__ = [
    "BoxMetric",
    "DepthMetric",
    "DetectionMetric",
    "EdgeMetric",
    "FlowMetric",
    "ForegroundMetric",
    "InstanceMetric",
    "KeypointMetric",
    "NormalMetric",
    "PanopticMetric",
    "RestorationMetric",
    "RowMetric",
    "VideoMaskMetric",
]
