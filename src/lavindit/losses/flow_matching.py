"""Conditional flow matching (Lipman et al. 2023; LaVin-DiT, eq. 6)."""

from torch import Tensor


def flow_matching_loss(predicted: Tensor, velocity: Tensor, l1_weight: float = 0.0) -> Tensor:
    """Mean squared error of the velocity, plus `l1_weight` times the mean absolute error (the release takes 0.1).

    Args:
        predicted: [B, T, ...].
        velocity: Same shape.
        l1_weight: Weight of the L1 term.

    Returns:
        One loss for each of the first two dimensions, [B, T].
    """
    error = (predicted.float() - velocity.float()).flatten(2)
    loss = error.square().mean(-1)
    return loss + l1_weight * error.abs().mean(-1) if l1_weight else loss
