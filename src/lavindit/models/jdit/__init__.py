"""The joint diffusion transformer."""

from lavindit.models.jdit.cache import KVCache, join_caches
from lavindit.models.jdit.config import ContextAttention, JDiTConfig
from lavindit.models.jdit.layout import Layout, every_pair_layout, query_layout
from lavindit.models.jdit.model import JDiT

__all__ = [
    "ContextAttention",
    "JDiT",
    "JDiTConfig",
    "KVCache",
    "Layout",
    "every_pair_layout",
    "join_caches",
    "query_layout",
]
