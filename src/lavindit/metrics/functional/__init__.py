"""Metrics as pure functions on tensors; natives in, numbers out."""

from lavindit.metrics.functional.depth import align_scale_shift, depth_errors
from lavindit.metrics.functional.edges import dilate, edge_f_score
from lavindit.metrics.functional.flow import flow_errors
from lavindit.metrics.functional.masks import intersection_union, pooled_iou
from lavindit.metrics.functional.normals import angular_errors_deg, normal_errors
from lavindit.metrics.functional.pictures import fill_worst, mean_squared_error, psnr_db, ssim

__all__ = [
    "align_scale_shift",
    "angular_errors_deg",
    "depth_errors",
    "dilate",
    "edge_f_score",
    "fill_worst",
    "flow_errors",
    "intersection_union",
    "mean_squared_error",
    "normal_errors",
    "pooled_iou",
    "psnr_db",
    "ssim",
]
