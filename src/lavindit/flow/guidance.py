"""Classifier-free guidance: the same query with and without its pairs."""

from collections.abc import Callable

from torch import Tensor


def guide(conditional: Tensor, null: Callable[[], Tensor], scale: float) -> Tensor:
    """v_null + scale (v - v_null) (Ho and Salimans 2022; LaVin-DiT, eq. 8).

    The null branch is a callable so that at scale 1, where it cancels, it is not run at all.
    """
    if scale == 1:
        return conditional
    without = null()
    return without + scale * (conditional - without)
