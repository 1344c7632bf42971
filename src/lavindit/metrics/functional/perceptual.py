"""How alike pictures look to a network: perceptual distance of two, distances between two sets.

Shape legend: F frames of a clip, n samples, D features of a sample.
"""

import torch
from torch import Tensor, nn

from lavindit.metrics.functional.pictures import fill_worst

# The kernel of KID: (x . y / D + 1) ** 3.
KERNEL_DEGREE = 3


def comparable_frames(answer: Tensor, truth: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures that a network may look at: those frames that have valid pixels, without a trace of the others.

    Args:
        answer: Picture [3, T, H, W] in [0, 1]; values that are not finite become the worse of 0 and 1, and pixels that
            are not valid the truth's.
        truth: Picture [3, T, H, W] in [0, 1]; pixels that are not finite are not valid, and black in both.
        valid: bool [1, T, H, W].

    Returns:
        Answer and truth [F, 3, H, W], single precision.
    """
    known = truth.isfinite().all(dim=0, keepdim=True)
    usable = valid & known
    truth = torch.where(known, truth, 0.0)
    answer = torch.where(usable, fill_worst(answer, truth), truth)
    frames = usable[0].flatten(1).any(dim=1)
    return answer[:, frames].transpose(0, 1).float(), truth[:, frames].transpose(0, 1).float()


def perceptual_distance(
    answer: Tensor, truth: Tensor, valid: Tensor, network: nn.Module, smallest_px: int = 1
) -> Tensor:
    """Distance of each frame as a network sees it, averaged over the frames that have valid pixels.

    Args:
        answer: Picture [3, T, H, W] in [0, 1]; see `comparable_frames` for what is not finite or not valid.
        truth: Picture [3, T, H, W] in [0, 1].
        valid: bool [1, T, H, W].
        network: Two stacks of pictures [F, 3, H, W] in [-1, 1] -> F distances.
        smallest_px: The smallest side that the network takes.

    Returns:
        Scalar; NaN without a valid pixel and for smaller frames.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    """
    answers, truths = comparable_frames(answer, truth, valid)
    if len(truths) == 0 or min(truths.shape[-2:]) < smallest_px:
        return answer.new_tensor(float("nan"))
    # One frame at a time: a clip's features would fill the memory.
    pairs = zip(answers.split(1), truths.split(1), strict=True)
    return torch.stack([network(2 * a - 1, 2 * t - 1).double().mean() for a, t in pairs]).mean()


def picture_features(frames: Tensor, network: nn.Module) -> Tensor:
    """Features of a sample: the mean over its frames, each rounded to 8 bits a channel.

    Args:
        frames: One or more [F, 3, H, W] in [0, 1] (values outside are clamped).
        network: uint8 pictures [F, 3, H, W] -> features [F, D].

    Returns:
        [D], double precision.
    """
    pixels = (255 * frames.clamp(0, 1)).round().byte()
    return torch.cat([network(frame) for frame in pixels.split(1)]).double().mean(dim=0)


def frechet_distance(x: Tensor, y: Tensor) -> Tensor:
    """Frechet distance of two sets, each taken for a normal distribution.

    `||mean_x - mean_y||^2 + tr(cov_x + cov_y - 2 (cov_x cov_y)^(1/2))`, with unbiased covariances. The last trace is
    the sum of the singular values of `A B^T`, where `A^T A = cov_x` and `B^T B = cov_y`: exact where n < D, too, where
    the product of the covariances has no full rank.

    Args:
        x: Features [n, D], double precision.
        y: Features [m, D].

    Returns:
        Scalar, at least 0; NaN for fewer than two samples, which have no covariance.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017; Dowson and Landau, 1982.
    """
    if min(len(x), len(y)) < 2:
        return x.new_tensor(float("nan"))
    a, b = _covariance_root(x), _covariance_root(y)
    common = torch.linalg.svdvals(a @ b.T).sum()
    spread = a.square().sum() + b.square().sum() - 2 * common
    return ((x.mean(dim=0) - y.mean(dim=0)).square().sum() + spread).clamp(min=0)


def kernel_distance(x: Tensor, y: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two sets under the kernel `(x . y / D + 1)^3`.

    `mean k(x_i, x_j) + mean k(y_i, y_j) - 2 mean k(x_i, y_j)`; the first two leave out i = j, which makes the estimate
    unbiased for sets drawn apart, so it may be negative. Of a set and itself it is a little below 0.

    Args:
        x: Features [n, D], double precision.
        y: Features [m, D].

    Returns:
        Scalar; NaN for fewer than two samples.

    Source: Binkowski et al., "Demystifying MMD GANs", ICLR 2018, over all samples, not over subsets of them.
    """
    if min(len(x), len(y)) < 2:
        return x.new_tensor(float("nan"))

    def kernel(u: Tensor, v: Tensor) -> Tensor:
        return (u @ v.T / u.shape[1] + 1) ** KERNEL_DEGREE

    def mean_of_others(table: Tensor) -> Tensor:
        return (table.sum() - table.trace()) / (len(table) * (len(table) - 1))

    return mean_of_others(kernel(x, x)) + mean_of_others(kernel(y, y)) - 2 * kernel(x, y).mean()


def _covariance_root(x: Tensor) -> Tensor:
    """A [min(n, D), D] with `A^T A` the unbiased covariance of the features [n, D]."""
    centred = (x - x.mean(dim=0)) / (len(x) - 1) ** 0.5
    return torch.linalg.qr(centred, mode="r").R if len(x) > x.shape[1] else centred
