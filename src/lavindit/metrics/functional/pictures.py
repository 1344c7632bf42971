"""How near a picture is to the true one: MSE, PSNR, SSIM."""

from typing import Any

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

# PSNR of equal pictures is infinite; a mean over samples needs a number.
PSNR_CAP_DB = 100.0
# 11 taps: sigma 1.5 truncated at 3.5 sigma.
SSIM_WINDOW_PX = 11


def fill_worst(answer: Tensor, truth: Tensor) -> Tensor:
    """Replace values that are not finite by 0 or 1, whichever is farther from the truth.

    Args:
        answer: Values [...] meant for [0, 1].
        truth: Values [...] in [0, 1].

    Returns:
        Finite values [...].
    """
    return torch.where(answer.isfinite(), answer, (truth < 0.5).to(answer.dtype))


def mean_squared_error(answer: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """`mean((a - t)^2)` over the valid pixels and all channels.

    Args:
        answer: [C, T, H, W] in [0, 1]; values that are not finite score as the worst of 0 and 1.
        truth: [C, T, H, W] in [0, 1]; pixels that are not finite are ignored.
        valid: bool [1, T, H, W].

    Returns:
        Scalar; NaN without a valid pixel.
    """
    usable = valid[0] & truth.isfinite().all(dim=0)
    answer, truth = answer[:, usable], truth[:, usable]
    return (fill_worst(answer, truth) - truth).square().mean()


def psnr_db(answer: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Peak signal-to-noise ratio `-10 log10(MSE)` of each frame, averaged over the frames that have valid pixels.

    Args:
        answer: Picture [C, T, H, W] in [0, 1].
        truth: Picture [C, T, H, W] in [0, 1].
        valid: bool [1, T, H, W].

    Returns:
        Scalar in dB, each frame capped at 100 dB; NaN without a valid pixel.
    """
    frames = [slice(t, t + 1) for t in range(truth.shape[1])]
    errors = torch.stack([mean_squared_error(answer[:, t], truth[:, t], valid[:, t]) for t in frames])
    return (-10 * errors.log10()).clamp(max=PSNR_CAP_DB).nanmean()


def ssim(answer: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Structural similarity: Gaussian window (sigma 1.5, 11 taps), population covariance, data range 1.

    Taken over whole frames, not only their valid pixels, because the window mixes pixels; frames without a valid
    pixel are left out. The mean runs over channels and over pixels whose window lies inside the frame. Computed by
    scikit-image.

    Args:
        answer: Picture [C, T, H, W] in [0, 1]; values that are not finite score as the worst of 0 and 1.
        truth: Picture [C, T, H, W] in [0, 1]; values that are not finite are taken as black in both.
        valid: bool [1, T, H, W].

    Returns:
        Scalar in [-1, 1]; NaN without a valid pixel and for frames smaller than 11 pixels.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", TIP 2004.
    """
    known = truth.isfinite()
    truth = torch.where(known, truth, 0.0)
    answer = torch.where(known, fill_worst(answer, truth), 0.0)
    frames = (valid[0] & known.all(dim=0)).flatten(1).any(dim=1)
    if not bool(frames.any()) or min(truth.shape[-2:]) < SSIM_WINDOW_PX:
        return answer.new_tensor(float("nan"))
    images = [picture[:, frames].double().cpu().numpy().swapaxes(0, 1) for picture in (answer, truth)]
    # scikit-image's filters: in double, torch's convolutions take twenty times as long.
    options: dict[str, Any] = {"channel_axis": 0, "data_range": 1.0, "sigma": 1.5}
    options |= {"gaussian_weights": True, "use_sample_covariance": False}
    found = [structural_similarity(a, t, **options) for a, t in zip(*images, strict=True)]
    return answer.new_tensor(found).mean()
