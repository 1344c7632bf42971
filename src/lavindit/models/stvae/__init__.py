"""The spatial-temporal VAE."""

from lavindit.models.stvae.config import STVAEConfig
from lavindit.models.stvae.model import STVAE, DiagonalGaussian

__all__ = ["STVAE", "DiagonalGaussian", "STVAEConfig"]
