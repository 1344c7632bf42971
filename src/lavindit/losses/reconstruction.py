"""Pixel fidelity of the VAE."""

from torch import Tensor


def reconstruction_loss(output: Tensor, pixels: Tensor, l1_weight: float = 0.0) -> Tensor:
    """Mean squared error, plus `l1_weight` times the mean absolute error, a sample: [B, ...] twice -> [B]."""
    error = (output.float() - pixels.float()).flatten(1)
    loss = error.square().mean(-1)
    return loss + l1_weight * error.abs().mean(-1) if l1_weight else loss
