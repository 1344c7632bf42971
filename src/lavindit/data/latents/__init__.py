"""Latents that are encoded once and read in training: shards, what they say of themselves, writer and stream."""

from lavindit.data.latents.description import (
    LatentsConfig,
    LatentsDescription,
    check_data,
    latents_config,
    read_description,
    vae_hash,
)
from lavindit.data.latents.encode import LatentWriter, share_out, stored_episode
from lavindit.data.latents.stream import LatentMixture, LatentStore, choose_places

__all__ = [
    "LatentMixture",
    "LatentStore",
    "LatentWriter",
    "LatentsConfig",
    "LatentsDescription",
    "check_data",
    "choose_places",
    "latents_config",
    "read_description",
    "share_out",
    "stored_episode",
    "vae_hash",
]
