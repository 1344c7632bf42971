"""Metrics: pure functions in `functional`, and one thin class a field that keeps a row a sample."""

from lavindit.metrics.base import RowMetric
from lavindit.metrics.depth import DepthMetric
from lavindit.metrics.edges import EdgeMetric
from lavindit.metrics.flow import FlowMetric
from lavindit.metrics.foreground import ForegroundMetric
from lavindit.metrics.normals import NormalMetric
from lavindit.metrics.restoration import RestorationMetric

__all__ = [
    "DepthMetric",
    "EdgeMetric",
    "FlowMetric",
    "ForegroundMetric",
    "NormalMetric",
    "RestorationMetric",
    "RowMetric",
]
