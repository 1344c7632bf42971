"""Data: the embedded world, photographs, episodes, the mixture and the data module."""

from lavindit.data.episodes import EpisodeMaker, collate
from lavindit.data.mixture import EpisodeMixture, EpisodeTest, ShareSampler, StreamSampler
from lavindit.data.module import EpisodeData
from lavindit.data.photos import PhotoSource, bundled_photo
from lavindit.data.sources import SourceConfig, source_for
from lavindit.data.stereo import bundled_stereo, save_bundled_stereo

__all__ = [
    "EpisodeData",
    "EpisodeMaker",
    "EpisodeMixture",
    "EpisodeTest",
    "PhotoSource",
    "ShareSampler",
    "SourceConfig",
    "StreamSampler",
    "bundled_photo",
    "bundled_stereo",
    "collate",
    "save_bundled_stereo",
    "source_for",
]
