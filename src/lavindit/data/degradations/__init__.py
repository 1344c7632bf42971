"""Degradations of pictures: seeded by a generator, every length in pixels of a picture whose shorter side is 64.

Lengths scale with the shorter side, so that a degradation looks alike at every resolution. Pictures are images or
clips [3, T, H, W] in [0, 1]; all frames of a clip share one draw, and rain moves through them.
"""

from lavindit.data.degradations.erasures import find_holes, grayscale, square_hole
from lavindit.data.degradations.filters import REFERENCE_SIDE, gaussian_blur
from lavindit.data.degradations.glass import glass_blur
from lavindit.data.degradations.motion import average_frames, camera_path, motion_blur, path_kernel
from lavindit.data.degradations.parameters import parameters_of
from lavindit.data.degradations.rain import rain

__all__ = [
    "REFERENCE_SIDE",
    "average_frames",
    "camera_path",
    "find_holes",
    "gaussian_blur",
    "glass_blur",
    "grayscale",
    "motion_blur",
    "parameters_of",
    "path_kernel",
    "rain",
    "square_hole",
]
