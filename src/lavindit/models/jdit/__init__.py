"""The joint diffusion transformer."""

from lavindit.models.jdit.config import ContextAttention, JDiTConfig
from lavindit.models.jdit.layout import Layout, every_pair_layout, query_layout
from lavindit.models.jdit.model import JDiT

__all__ = ["ContextAttention", "JDiT", "JDiTConfig", "Layout", "every_pair_layout", "query_layout"]
