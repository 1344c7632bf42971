"""How truly a clip changes from frame to frame."""

import torch
from torch import Tensor

from lavindit.metrics.functional.pictures import fill_worst

GREY_LEVELS = 255.0


def temporal_error(answer: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Error of the change between successive frames, `255 sqrt(mean(((a' - a) - (t' - t))^2))`.

    The mean runs over all pixels that are valid in both frames, all channels and all pairs of successive frames. An
    error that stands still costs nothing, so this tells flicker from blur.

    Args:
        answer: Clip [C, T, H, W] in [0, 1]; values that are not finite score as the worst of 0 and 1.
        truth: Clip [C, T, H, W] in [0, 1]; pixels that are not finite are ignored.
        valid: bool [1, T, H, W].

    Returns:
        Scalar in grey levels of 8 bits; NaN for a single frame and where no pixel is valid in two frames.

    Source: dtSSD of Erofeev et al., "Perceptually Motivated Benchmark for Video Matting", BMVC 2015, with a mean over
        pixels and frames in the place of the sum over pixels.
    """
    usable = valid & truth.isfinite().all(dim=0, keepdim=True)
    usable = (usable[:, 1:] & usable[:, :-1])[0]
    error = fill_worst(answer, truth) - truth
    change = torch.diff(error, dim=1)[:, usable]
    return GREY_LEVELS * change.square().mean().sqrt()
