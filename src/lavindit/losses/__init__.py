"""Losses: plain functions that return one number a sample, so that they can be logged by task."""

from lavindit.losses.flow_matching import flow_matching_loss
from lavindit.losses.reconstruction import reconstruction_loss

__all__ = ["flow_matching_loss", "reconstruction_loss"]
