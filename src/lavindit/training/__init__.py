"""Training: LightningModules that only orchestrate, EMA, schedule, checkpoints."""

from lavindit.training.dit import DiTModule
from lavindit.training.one_step import OneStepModule
from lavindit.training.vae import VAEModule

__all__ = ["DiTModule", "OneStepModule", "VAEModule"]
