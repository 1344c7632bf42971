"""The straight path between noise and data (rectified flow; LaVin-DiT, eq. 3-5).

Legend: x_0 noise, x_1 data, x_t = (1 - t) x_0 + t x_1, u = x_1 - x_0.
"""

from torch import Tensor


def interpolate(noise: Tensor, data: Tensor, t: Tensor) -> Tensor:
    """Point x_t on the path.

    Args:
        noise: Any shape.
        data: Same shape.
        t: Times in [0, 1], broadcastable to the data (0 gives the noise, 1 the data).
    """
    return (1 - t) * noise + t * data


def velocity(noise: Tensor, data: Tensor) -> Tensor:
    """Velocity u of the straight path; it does not depend on t."""
    return data - noise
