"""Metrics as pure functions on tensors; natives in, numbers out."""

from lavindit.metrics.functional.boxes import box_area, box_iou, tight_boxes
from lavindit.metrics.functional.depth import align_scale_shift, depth_errors
from lavindit.metrics.functional.edges import dilate, edge_f_score
from lavindit.metrics.functional.flow import flow_errors
from lavindit.metrics.functional.instances import (
    Instances,
    average_precision,
    best_overlaps,
    find_instances,
    mask_iou,
    match_detections,
    pair_one_to_one,
)
from lavindit.metrics.functional.keypoints import count_correct_keypoints, joint_extents, object_keypoint_similarity
from lavindit.metrics.functional.masks import intersection_union, pooled_iou
from lavindit.metrics.functional.normals import angular_errors_deg, normal_errors
from lavindit.metrics.functional.panoptic import panoptic_counts, panoptic_quality
from lavindit.metrics.functional.perceptual import (
    comparable_frames,
    frechet_distance,
    kernel_distance,
    perceptual_distance,
    picture_features,
)
from lavindit.metrics.functional.pictures import fill_worst, mean_squared_error, psnr_db, ssim
from lavindit.metrics.functional.video_masks import (
    boundary_radius_px,
    dilate_disk,
    mask_boundary,
    region_and_boundary,
    score_objects,
)

__all__ = [
    "Instances",
    "align_scale_shift",
    "angular_errors_deg",
    "average_precision",
    "best_overlaps",
    "boundary_radius_px",
    "box_area",
    "box_iou",
    "comparable_frames",
    "count_correct_keypoints",
    "depth_errors",
    "dilate",
    "dilate_disk",
    "edge_f_score",
    "fill_worst",
    "find_instances",
    "flow_errors",
    "frechet_distance",
    "intersection_union",
    "joint_extents",
    "kernel_distance",
    "mask_boundary",
    "mask_iou",
    "match_detections",
    "mean_squared_error",
    "normal_errors",
    "object_keypoint_similarity",
    "pair_one_to_one",
    "panoptic_counts",
    "panoptic_quality",
    "perceptual_distance",
    "picture_features",
    "pooled_iou",
    "psnr_db",
    "region_and_boundary",
    "score_objects",
    "ssim",
    "tight_boxes",
]
