"""What the J-DiT's training asks of stored latents."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lavindit.data.latents import LatentsConfig, vae_hash
from lavindit.errors import LavinditError
from lavindit.inference.sampler import Posterior, posterior_noise
from lavindit.models.released import model_folder
from lavindit.models.store import read_description
from lavindit.types import EpisodeBatch, LatentBatch, LatentEpisode


def check_vae(folder: Path | str, config: LatentsConfig, vae: Path | str, posterior: Posterior) -> None:
    """Refuse latents of another VAE, or without what a posterior's samples need.

    Args:
        folder: Of the latents.
        config: What they say of themselves.
        vae: Model directory of the frozen VAE.
        posterior: What training takes of the VAE's posterior.

    Raises:
        LavinditError: They do not fit.
    """
    differs = "weight file has another hash" if vae_hash(vae) != config.vae_sha256 else ""
    for name, value in asdict(read_description(model_folder(vae)).vae).items():
        theirs = config.vae.get(name)
        if _plain(theirs) != _plain(value):  # the same weights give other latents with another norm, say
            differs = f"{name} is {value}, theirs {theirs}"
            break
    if differs:
        raise LavinditError(
            f"the latents in {folder} are not of the VAE in {vae}: its {differs}; name theirs in "
            "model.init_args.vae, or run `lavindit encode` into another folder"
        )
    if posterior == "sample" and not config.std:
        raise LavinditError(
            f"the latents in {folder} have no standard deviations for posterior: sample; take posterior: mean, or run "
            "`lavindit encode --posterior sample` into another folder"
        )


def _plain(value: Any) -> Any:
    """As JSON would give it."""
    return list(value) if isinstance(value, tuple) else value


def latents_of(batch: LatentBatch, posterior: Posterior, seed: int) -> LatentEpisode:
    """Latents of a batch: the posterior's means, or samples with the noise that `encode_batch` would take.

    Args:
        batch: The batch; a sample needs its `std`.
        posterior: "mean" or "sample".
        seed: Seed of the samples.
    """
    if posterior == "mean":
        return batch.mean
    assert batch.std is not None  # `check_vae` has seen to it
    parts: list[torch.Tensor] = []
    for name, mean, std in (
        ("input", batch.mean.inputs, batch.std.inputs),
        ("target", batch.mean.targets, batch.std.targets),
    ):
        noise = posterior_noise(batch.sample_ids, name, mean.shape[1], tuple(mean.shape[2:]), seed)
        parts.append(mean + std * noise.to(mean))
    return LatentEpisode(*parts)


def latent_sizes(batch: EpisodeBatch | LatentBatch) -> tuple[int, int, int, int]:
    """K, latent frames of an input and of a target, and latent pixels of a frame."""
    if isinstance(batch, LatentBatch):
        pairs, _, frames_in, height, width = batch.mean.inputs.shape[1:]
        return pairs - 1, frames_in, batch.mean.targets.shape[3], height * width
    frames_in, frames_out = (1 + (part.shape[3] - 1) // 4 for part in (batch.inputs, batch.targets))
    return batch.inputs.shape[1] - 1, frames_in, frames_out, batch.inputs.shape[4] * batch.inputs.shape[5] // 64
