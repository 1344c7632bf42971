"""The embedded world: procedural rooms and plains with exact depth, normals, ids, keypoints and flow; no download."""

from lavindit.data.world.objects import CLASS_NAMES, STUFF, THINGS
from lavindit.data.world.source import WorldSource

WORLD_VERSION = 2
"""Raised whenever the pictures or the truth change, which voids every older figure."""

__all__ = ["CLASS_NAMES", "STUFF", "THINGS", "WORLD_VERSION", "WorldSource"]
