"""Losses: plain functions that return one number a sample, so that they can be logged by task."""

from lavindit.losses.adversarial import adaptive_weight, hinge_discriminator_loss, hinge_generator_loss, r1_penalty
from lavindit.losses.flow_matching import flow_matching_loss
from lavindit.losses.perceptual import PerceptualLoss
from lavindit.losses.reconstruction import reconstruction_loss

__all__ = [
    "PerceptualLoss",
    "adaptive_weight",
    "flow_matching_loss",
    "hinge_discriminator_loss",
    "hinge_generator_loss",
    "r1_penalty",
    "reconstruction_loss",
]
