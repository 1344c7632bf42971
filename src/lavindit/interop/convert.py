"""Released weight files to a model directory and back, tensor by tensor: a model need not fit into memory."""

import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.interop.official import (
    LATENT_STATISTICS,
    Match,
    Piece,
    check_latent_statistics,
    match_dit,
    match_vae,
    released_dit_pieces,
    released_vae_pieces,
)
from lavindit.interop.options import dit_options, vae_options
from lavindit.interop.sources import WeightsSource, open_source
from lavindit.interop.table import Entry
from lavindit.models.released import model_folder
from lavindit.models.store import (
    CONFIG_NAME,
    JDIT_NAME,
    VAE_NAME,
    ModelDescription,
    make_networks,
    new_model_folder,
    open_weights,
    read_description,
    refuse_existing_model,
)
from lavindit.models.weights import DTYPES, TensorSpec, WeightsFile, write_weights

RESOLUTION = 512
FLOATS = ("F64", "F32", "F16", "BF16")
Progress = Callable[[int, int], None]
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Output:
    """A weight file to be written: its tensors, and how to get each."""

    specs: dict[str, TensorSpec]
    read: Callable[[str], Tensor]
    metadata: dict[str, str] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(spec.nbytes for spec in self.specs.values())


def import_official(
    vae: Path | str,
    dit: Path | str | None,
    out: Path | str,
    *,
    ignore: Iterable[str] = (),
    vae_config: Config | None = None,
    dit_config: Config | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[Path, tuple[str, ...]]:
    """Write a model directory from released weights, in their own types.

    Args:
        vae: Released VAE: safetensors, or a torch file with `state_dict`.
        dit: Released transformer, likewise; None: the directory holds the VAE alone.
        out: The model directory.
        ignore: Shell patterns of extra keys to drop.
        vae_config: Options under the release's names; by default those in the file's metadata, and what the
            tensors show.
        dit_config: Likewise, for the transformer.
        overwrite: Replace a model directory that exists.
        progress: Told the bytes written and their total.

    Returns:
        The keys that were dropped from each file.

    Raises:
        LavinditError: A file is damaged, its keys or shapes are not the release's, or `out` cannot be written.
    """
    vae, dit, out, ignore = Path(vae), None if dit is None else Path(dit), Path(out), tuple(ignore)
    refuse_existing_model(out, overwrite)
    vae_match, vae_output = _matched(vae, match_vae, ignore, vae_config)
    outputs, dropped = {VAE_NAME: vae_output}, {vae: vae_match.dropped}
    dit_match = None
    if dit is not None:
        dit_match, outputs[JDIT_NAME] = _matched(dit, match_dit, ignore, dit_config)
        dropped[dit] = dit_match.dropped
        made, taken = vae_match.config.latent_channels, dit_match.config.latent_channels
        if made != taken:
            raise LavinditError(f"{vae} has {made} latent channels, {dit} takes {taken}")
    source = ", ".join(path.name for path in reversed(dropped))
    info = {"preset": "official", "resolution": RESOLUTION, "source": source}
    description = ModelDescription(vae_match.config, None if dit_match is None else dit_match.config, info)
    with new_model_folder(out, description) as folder:
        _write_all({folder / name: output for name, output in outputs.items()}, progress)
    return dropped


def export_official(
    model: Path | str,
    *,
    dit: Path | str | None = None,
    vae: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a model directory as released weights, safetensors in the directory's own types.

    Args:
        model: The model directory, or the name of a released model.
        dit: File for the transformer; None: it is not written.
        vae: File for the VAE; None: it is not written.
        overwrite: Replace files that exist.
        progress: Told the bytes written and their total.

    Raises:
        LavinditError: The released code cannot express the model, or a file exists or cannot be written.
    """
    model, dit, vae = model_folder(model), None if dit is None else Path(dit), None if vae is None else Path(vae)
    files = [path for path in (dit, vae) if path is not None]
    own = [(model / name).resolve() for name in (CONFIG_NAME, VAE_NAME, JDIT_NAME)]
    for path in files:
        if path.exists() and (not overwrite or path.resolve() in own or not path.is_file()):
            remedy = "choose another name" if overwrite else "choose another name or add --overwrite"
            raise LavinditError(f"{path} exists; {remedy}")
    if len({path.resolve() for path in files}) != len(files):
        raise LavinditError(f"--dit and --vae are the same file {files[0]}")
    outputs = _exported(model, dit, vae)
    with _temporary_names(outputs) as names:
        _write_all({names[path]: output for path, output in outputs.items()}, progress)


def _matched(
    path: Path, match: Callable[..., Match], ignore: tuple[str, ...], config: Config | None
) -> tuple[Match, Output]:
    source = open_source(path)
    try:
        shapes = {key: spec.shape for key, spec in source.specs.items()}
        matched = match(shapes, ignore, _config_in(source) | dict(config or {}))
        specs = {entry.ours: _spec(entry, matched, source) for entry in matched.entries}
    except LavinditError as error:
        raise LavinditError(f"{path}: {error}") from error
    entries = {entry.ours: entry for entry in matched.entries}
    statistics = {key: LATENT_STATISTICS[key] for key in matched.shapes if key in LATENT_STATISTICS}
    specs |= {key: TensorSpec("F32", matched.shapes[key]) for key in statistics}

    def read(key: str) -> Tensor:
        if key in statistics:
            return torch.full(matched.shapes[key], statistics[key])
        return entries[key].join(source.read)

    return matched, Output(specs, read)


def _config_in(source: WeightsSource) -> dict[str, Any]:
    text = source.metadata.get("config", "{}")
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise LavinditError(f"the metadata entry `config` is no JSON object: {text[:80]}")
    return config


def _spec(entry: Entry, match: Match, source: WeightsSource) -> TensorSpec:
    types = {source.specs[key].dtype for key in entry.released}
    if len(types) > 1 or types.isdisjoint(FLOATS):
        raise LavinditError(f"{', '.join(entry.released)} hold {', '.join(sorted(types))}; one of {FLOATS} is wanted")
    return TensorSpec(types.pop(), match.shapes[entry.ours])


def _exported(model: Path, dit: Path | None, vae: Path | None) -> dict[Path, Output]:
    description = read_description(model)
    networks = make_networks(model, description)
    outputs = {}
    if dit is not None:
        if description.jdit is None or networks[1] is None:
            raise LavinditError(f"{model} holds a VAE alone; leave out --dit")
        options, pieces = dit_options(description.jdit), released_dit_pieces(description.jdit)
        outputs[dit] = _released(open_weights(model / JDIT_NAME, networks[1], description), pieces, options)
    if vae is not None:
        options, pieces = vae_options(description.vae), released_vae_pieces(description.vae)
        file = open_weights(model / VAE_NAME, networks[0], description)
        check_latent_statistics(file.read)
        outputs[vae] = _released(file, pieces, options)
    return outputs


def _released(file: WeightsFile, pieces: Mapping[str, Piece], options: Config) -> Output:
    held = [piece.ours for piece in pieces.values() if piece.ours is not None]
    # Tensors that ours does not hold are zeros, in the type of the others.
    types = {key: file.specs[piece.ours or held[0]].dtype for key, piece in pieces.items()}

    def read(key: str) -> Tensor:
        piece = pieces[key]
        if piece.ours is None:
            return torch.zeros(piece.shape, dtype=DTYPES[types[key]])
        return file.read(piece.ours, piece.rows).reshape(piece.shape)

    specs = {key: TensorSpec(types[key], piece.shape) for key, piece in pieces.items()}
    return Output(specs, read, {"format": "pt", "config": json.dumps(options)})


def _write_all(outputs: Mapping[Path, Output], progress: Progress | None) -> None:
    total, done = sum(output.nbytes for output in outputs.values()), 0

    def written(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    for path, output in outputs.items():
        write_weights(path, output.specs, output.read, output.metadata, written)


@contextmanager
def _temporary_names(paths: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """Names to write to; renamed to the paths if all goes well, else removed."""
    names = {path: path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp") for path in paths}
    try:
        try:
            for path in names:
                path.parent.mkdir(parents=True, exist_ok=True)
            yield names
            for path, name in names.items():
                os.replace(name, path)
        finally:
            for name in names.values():
                name.unlink(missing_ok=True)
    except OSError as error:
        where = ", ".join(str(path) for path in names)
        raise LavinditError(f"cannot write {where}: {error.strerror or error}") from error
