"""Edge maps: F-score with a tolerance of some pixels, and mean squared error."""

import torch.nn.functional as F
from torch import Tensor


def dilate(mask: Tensor, radius_px: int) -> Tensor:
    """Grow a mask by a square: true within Chebyshev distance `radius_px` of a true pixel.

    Args:
        mask: bool [1, T, H, W].
        radius_px: Radius in pixels.

    Returns:
        bool [1, T, H, W].
    """
    # max_pool2d pads with -inf, so the border adds nothing
    return F.max_pool2d(mask[0].float(), 2 * radius_px + 1, stride=1, padding=radius_px)[None] > 0.5


def edge_f_score(answer: Tensor, truth: Tensor, valid: Tensor, tolerance_px: int = 1, threshold: float = 0.5) -> Tensor:
    """F-score of an edge map with a tolerance: `2 P R / (P + R)`.

    P is the share of answer edges within `tolerance_px` (Chebyshev) of a true edge, R the share of true edges within
    it of an answer edge; edges are counted over all frames at once. Invalid pixels hold no edge, in either map. A
    pixel whose answer is not finite is the worst of both: a false edge for P, no edge for R.

    Args:
        answer: Soft edges in [0, 1] [1, T, H, W]; an edge is above `threshold`.
        truth: Edges [1, T, H, W], likewise; not finite counts as invalid.
        valid: bool [1, T, H, W].
        tolerance_px: Distance in pixels that still matches.
        threshold: Where soft becomes edge.

    Returns:
        Scalar in [0, 1]: 1 where both maps are empty, 0 where one is; NaN without a valid pixel.

    Source: Martin et al., "Learning to Detect Natural Image Boundaries", TPAMI 2004, with matching relaxed to distance
    (no one-to-one assignment, no thinning).
    """
    valid = valid & truth.isfinite()
    if not bool(valid.any()):
        return answer.new_tensor(float("nan"))
    unknown = valid & ~answer.isfinite()
    answered = valid & ~unknown & (answer > threshold)
    true = valid & (truth > threshold)
    n_answered = int(answered.sum()) + int(unknown.sum())
    n_true = int(true.sum())
    if n_answered == 0 or n_true == 0:
        return answer.new_tensor(float(n_answered == n_true))
    precision = float((answered & dilate(true, tolerance_px)).sum()) / n_answered
    recall = float((true & dilate(answered, tolerance_px)).sum()) / n_true
    total = precision + recall
    return answer.new_tensor(2 * precision * recall / total if total > 0 else 0.0)
