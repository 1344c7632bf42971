"""Boxes: overlap, and the tight boxes of an id map."""

import torch
from torch import Tensor

from lavindit.metrics.functional.instances import Instances


def box_area(boxes: Tensor) -> Tensor:
    """Area of boxes.

    Args:
        boxes: [..., 4]: left, top, right, bottom in pixels, edges (a single pixel at the origin is 0, 0, 1, 1).

    Returns:
        Square pixels [...]; 0 for a box that is not finite or whose right or bottom edge is not beyond its left or top.
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return torch.where(boxes.isfinite().all(dim=-1), sides.prod(dim=-1), 0.0)


def box_iou(answer: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of each answered and each true box.

    Args:
        answer: [A, 4] as in `box_area`.
        truth: [G, 4], likewise.

    Returns:
        [A, G] in [0, 1]; 0 where either box is empty or not finite.
    """
    low = torch.maximum(answer[:, None, :2], truth[:, :2])
    high = torch.minimum(answer[:, None, 2:], truth[:, 2:])
    shared = box_area(torch.cat([low, high], dim=-1))
    answer_area, truth_area = box_area(answer)[:, None], box_area(truth)
    proper = (answer_area > 0) & (truth_area > 0)
    return torch.where(proper, shared / (answer_area + truth_area - shared), 0.0)


def tight_boxes(instances: Instances, height: int, width: int) -> Tensor:
    """The smallest box around the pixels of each instance of one frame.

    Args:
        instances: n instances over P = height x width pixels.
        height: Of the frame in pixels.
        width: Of the frame in pixels.

    Returns:
        [n, 4]: left, top, right, bottom in pixels, edges.
    """
    member = (instances.labels >= 0).nonzero().squeeze(1)
    label = instances.labels[member]
    y, x = member // width, member % width
    n = len(instances.ids)

    def farthest(values: Tensor, side: str) -> Tensor:
        start = torch.zeros(n, dtype=torch.long, device=label.device)
        return start.scatter_reduce_(0, label, values, side, include_self=False)

    edges = [farthest(x, "amin"), farthest(y, "amin"), farthest(x, "amax") + 1, farthest(y, "amax") + 1]
    return torch.stack(edges, dim=1).to(instances.areas_px.dtype)
