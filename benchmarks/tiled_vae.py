"""How near a VAE's tiled and streamed results are to those of the whole picture and clip, and what they cost.

    python benchmarks/tiled_vae.py --model runs/demo_vae/model --out benchmarks/results/tiled_vae.json

Tiles: test photographs and held-out renders, encoded and decoded whole and in tiles. Two things differ: what
convolutions see at the sides of a tile, and the statistics of the GroupNorms. A second decoding in tiles, with the
statistics of the whole picture put into every GroupNorm, tells them apart. The same with random weights, since a
trained network may lean on its statistics more or less than its layout suggests. The outputs of random weights are no
pictures, so there the signal-to-noise ratio is what can be compared: the variance of the untiled result over the mean
squared difference.

Streams: clips of renders, whole and in chunks. Memory is the peak that torch's CPU allocator holds during the call,
input and weights left out. Some ten minutes on one core at 256 px.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lavindit.data.photos import PhotoSource
from lavindit.data.world import WorldSource
from lavindit.metrics.functional import psnr_db
from lavindit.models import STVAE, load_model, model_folder
from lavindit.models.stvae import (
    StreamingDecoder,
    StreamingEncoder,
    Tiling,
    decode_in_chunks,
    decode_tiled,
    encode_in_chunks,
    encode_tiled,
)
from lavindit.models.stvae.tiling import CELL_PX, spans
from lavindit.report import file_benchmark
from lavindit.types import Source

SEED = 0
SHARES = (0.0, 0.25, 0.5)
"""Overlaps asked for, as shares of a tile. Tiles are spread evenly, so more may be shared; filed is what is shared."""
CLIP_PX, CLIP_FRAMES, CHUNKS = 64, 49, (4, 12)

Figures = dict[str, Any]
Statistics = dict[nn.Module, tuple[Tensor, Tensor]]


def read_pixels(source: Source, count: int) -> list[Tensor]:
    """Pictures or clips of a source, each [1, 3, T, H, W] in [-1, 1]."""
    return [source[index].rgb[None] * 2 - 1 for index in range(count)]


def similarity(answers: list[Tensor], truths: list[Tensor]) -> Figures:
    """PSNR as pictures, and signal-to-noise ratio, in dB, with standard errors."""
    rows: dict[str, list[float]] = {"psnr_db": [], "snr_db": []}
    for answer, truth in zip(answers, truths, strict=True):
        a, b = (((x[0] + 1) / 2).clamp(0, 1) for x in (answer, truth))
        rows["psnr_db"].append(float(psnr_db(a, b, torch.ones_like(b[:1], dtype=torch.bool))))
        rows["snr_db"].append(snr_db(answer, truth))
    return {key: value for name, row in rows.items() for key, value in mean(name, row).items()}


def snr_db(answer: Tensor, truth: Tensor) -> float:
    """Variance of the truth over the mean squared difference."""
    return float(10 * torch.log10(truth.var() / (answer - truth).square().mean()))


def mean(name: str, row: list[float]) -> Figures:
    """Mean and its standard error; None where two results are equal to the bit, so that no number says how far."""
    if not all(map(math.isfinite, row)):
        return {name: None, f"{name}_standard_error": None}
    error = statistics.stdev(row) / len(row) ** 0.5 if len(row) > 1 else None
    return {name: statistics.fmean(row), f"{name}_standard_error": error}


@contextmanager
def statistics_hook(vae: STVAE, hook: Callable[[nn.GroupNorm, Tensor], Tensor | None]) -> Iterator[None]:
    """Show the input of every GroupNorm of the decoder to a hook; what it returns takes the output's place."""
    norms = [module for module in vae.decoder.modules() if isinstance(module, nn.GroupNorm)]
    handles = [norm.register_forward_hook(lambda norm, inputs, _: hook(norm, inputs[0])) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def decode_with_whole_statistics(vae: STVAE, z: Tensor, tiling: Tiling) -> Tensor:
    """Decode one latent picture in tiles, normalised by means and variances of the whole."""
    kept: Statistics = {}

    def keep(norm: nn.GroupNorm, x: Tensor) -> None:
        groups = x.unflatten(1, (norm.num_groups, -1))
        kept[norm] = groups.mean((2, 3, 4), keepdim=True), groups.var((2, 3, 4), correction=0, keepdim=True)

    def use(norm: nn.GroupNorm, x: Tensor) -> Tensor:
        average, variance = kept[norm]
        groups = (x.unflatten(1, (norm.num_groups, -1)) - average) / (variance + norm.eps).sqrt()
        return groups.flatten(1, 2) * norm.weight[:, None, None] + norm.bias[:, None, None]

    with statistics_hook(vae, keep):
        vae.decode(z)
    with statistics_hook(vae, use):
        return decode_tiled(vae, z, tiling)


def tilings(side_px: int, tile_px: int) -> dict[int, Tiling]:
    """Tilings of a square that differ, by the least that two neighbours share in it, in pixels."""
    found: dict[int, Tiling] = {}
    for share in SHARES:
        tiling = Tiling(tile_px, round(share * tile_px / CELL_PX) * CELL_PX)
        tiles = spans(side_px // CELL_PX, tile_px // CELL_PX, tiling.overlap_px // CELL_PX)
        shared = min((one.stop - following.start for one, following in pairwise(tiles)), default=0)
        found.setdefault(shared * CELL_PX, tiling)
    return found


def study_tiles(vae: STVAE, pictures: list[Tensor], tile_px: int) -> Figures:
    """Tiled against untiled, by overlap."""
    latents = [vae.encode(x).mean for x in pictures]
    whole = [vae.decode(z) for z in latents]
    found: Figures = {"n": len(pictures), "untiled_against_picture": similarity(whole, pictures)}
    for shared_px, tiling in tilings(pictures[0].shape[-1], tile_px).items():
        tiled = [encode_tiled(vae, x, tiling).mean for x in pictures]
        there_and_back = [decode_tiled(vae, z, tiling) for z in tiled]
        found[f"overlap_{shared_px}_px"] = {
            "encoder_snr_db": statistics.fmean(map(snr_db, tiled, latents)),
            "decoder": similarity([decode_tiled(vae, z, tiling) for z in latents], whole),
            "decoder_with_whole_statistics": similarity(
                [decode_with_whole_statistics(vae, z, tiling) for z in latents], whole
            ),
            "both": similarity(there_and_back, whole),
            "both_against_picture": similarity(there_and_back, pictures),
        }
    return found


def study_stream(vae: STVAE, clip: Tensor) -> Figures:
    """A clip in chunks against the whole, by frames a chunk."""
    z = vae.encode(clip).mean
    pixels = vae.decode(z)
    found: Figures = {"n": 1, "frames": clip.shape[2], "px": clip.shape[3]}
    found["whole"] = {"encode": cost(lambda: vae.encode(clip)), "decode": cost(lambda: vae.decode(z))}
    for chunk in CHUNKS:
        encoded = encode_in_chunks(vae, clip, chunk).mean
        decoded = decode_in_chunks(vae, z, chunk)
        found[f"chunks_of_{chunk}_frames"] = {
            "latent_largest_difference": float((encoded - z).abs().max()),
            "pixel_largest_difference": float((decoded - pixels).abs().max()),
            "encode": cost(lambda chunk=chunk: encode_in_chunks(vae, clip, chunk)),
            "decode": cost(lambda chunk=chunk: decode_in_chunks(vae, z, chunk)),
        }
    encoder, decoder = StreamingEncoder(vae), StreamingDecoder(vae)
    decoder(encoder(clip[:, :, :5]).mean)
    found["state_mib"] = {
        "encoder": encoder.state.memory_bytes() / 2**20,
        "decoder": decoder.state.memory_bytes() / 2**20,
    }
    return found


def cost(run: Callable[[], object]) -> Figures:
    """Seconds (the median of three calls) and peak memory of a call."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    records: Any = profile.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    changes = sorted((e.start_ns(), e.nbytes()) for e in records if e.name() == "[memory]")
    peak = max(accumulate(change for _, change in changes))
    return {"seconds": statistics.median(seconds), "n": 3, "peak_mib": peak / 2**20}


def random_weights(trained: STVAE) -> STVAE:
    """A VAE of the same config as torch initialises it."""
    torch.manual_seed(SEED)
    return STVAE(trained.config).eval()


@torch.no_grad()
def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model directory, or run folder")
    parser.add_argument("--photos", type=Path, help="folder of photographs; default: those inside scikit-image")
    parser.add_argument("--side", type=int, default=256, help="side of the pictures in pixels")
    parser.add_argument("--tiles", type=int, nargs="+", default=[64, 128], help="sides of the tiles in pixels")
    parser.add_argument("--count", type=int, default=16, help="pictures of each source")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    bundle = load_model(model_folder(chosen.model))
    sources = {
        "photographs": PhotoSource("test", chosen.side, chosen.count, SEED, chosen.photos),
        "renders": WorldSource("test", chosen.side, chosen.count, SEED, 1, chunk=4),
    }
    pictures = {name: read_pixels(source, chosen.count) for name, source in sources.items()}
    figures: Figures = {}
    for weights, vae in (("trained", bundle.vae), ("random", random_weights(bundle.vae))):
        for name, pixels in pictures.items():
            for tile_px in chosen.tiles:
                figures[f"{weights}, {name}, tiles of {tile_px} px"] = study_tiles(vae, pixels, tile_px)
    if bundle.vae.config.norm == "per_frame":
        clip = WorldSource("test", CLIP_PX, 1, SEED, CLIP_FRAMES, chunk=1)
        figures["stream"] = study_stream(bundle.vae, read_pixels(clip, 1)[0])
    fields = {
        "model": {key: bundle.info.get(key) for key in ("resolution", "steps", "seed", "lavindit_version")},
        "figures": figures,
    }
    file_benchmark(chosen.out, SEED, fields)


if __name__ == "__main__":
    main()
