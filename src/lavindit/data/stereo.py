"""A photograph whose depth is known: the left picture of scikit-image's stereo pair of a motorcycle."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lavindit.data.photos import bundled_photo
from lavindit.errors import LavinditError
from lavindit.files import new_file
from lavindit.pictures import save_array

PICTURE, DISPARITY = "motorcycle_left.png", "motorcycle_disp.npz"
SIZE = (500, 741)
"""Height and width that the calibration belongs to: a quarter of the published picture's side."""
FOCAL_PX = 994.978
BASELINE_M = 0.193001
PRINCIPAL_POINTS_PX = 31.086
"""How much farther right the principal point is in the right picture than in the left one."""


class Stereo(NamedTuple):
    """A photograph and its truth.

    Attributes:
        picture: The image file.
        depth_m: float32 [1, 1, H, W]: distance along the optical axis in metres, NaN where it is not known.
    """

    picture: Path
    depth_m: Tensor


def bundled_stereo() -> Stereo:
    """The motorcycle's left picture and its true depth, from the disparity that comes with scikit-image.

    A point at depth z is seen d = f b / z - p pixels farther left in the right picture, so z = f b / (d + p), with the
    focal length f, the baseline b and the distance p of the principal points.

    Raises:
        LavinditError: This scikit-image has the pictures in another size, or without the disparity.

    Source: Scharstein et al., "High-Resolution Stereo Datasets with Subpixel-Accurate Ground Truth", GCPR 2014 (scene
    Motorcycle); disparity and calibration of its reduced size as `skimage.data.stereo_motorcycle` gives them.
    """
    path = bundled_photo(DISPARITY)
    try:
        with np.load(path, allow_pickle=False) as content:
            disparity_px = torch.from_numpy(content["arr_0"].astype(np.float64))
    except (OSError, KeyError, ValueError) as error:
        raise LavinditError(f"cannot read {path} ({error}); install scikit-image again") from error
    if tuple(disparity_px.shape) != SIZE:
        raise LavinditError(f"{path} is of {list(disparity_px.shape)} pixels, its calibration of {list(SIZE)}")
    return Stereo(bundled_photo(PICTURE), depth_of_disparity(disparity_px)[None, None].float())


def depth_of_disparity(disparity_px: Tensor) -> Tensor:
    """Depth in metres of a disparity in pixels of the reduced size; NaN where there is none (NaN or infinite)."""
    separation_px = disparity_px + PRINCIPAL_POINTS_PX
    known = disparity_px.isfinite() & (separation_px > 0)
    return torch.where(known, FOCAL_PX * BASELINE_M / separation_px, torch.nan)


def save_bundled_stereo(folder: Path | str) -> tuple[Path, Path]:
    """Write `motorcycle.png` and `motorcycle_depth.npy` ([1, H, W], metres), as `lavindit apply --truth` reads them.

    Returns:
        Both paths.

    Raises:
        LavinditError: As `bundled_stereo`, or the folder cannot be written.
    """
    stereo, folder = bundled_stereo(), Path(folder)
    picture, depth = folder / "motorcycle.png", folder / "motorcycle_depth.npy"
    save_array(stereo.depth_m[0], depth)
    with new_file(picture) as new:
        shutil.copyfile(stereo.picture, new)
    return picture, depth
