"""The released weights as state dicts: into our networks and back.

The public functions work in memory; `match_*` and `released_pieces` hold what they share with the conversion of
files (`lavindit.interop.convert`), which never holds a whole model.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.interop.options import (
    LATENT_SCALE,
    LATENT_SHIFT,
    Shapes,
    dit_config,
    dit_options,
    vae_config,
    vae_options,
)
from lavindit.interop.table import Entry, Shape, dit_entries, vae_entries
from lavindit.models import STVAE, JDiT, JDiTConfig, STVAEConfig

LATENT_STATISTICS = {"latent_shift": LATENT_SHIFT, "latent_scale": LATENT_SCALE}
SHOWN_KEYS = 4


@dataclass(frozen=True)
class Match:
    """How released tensors become a network of ours.

    Attributes:
        config: Config of our network.
        entries: Where each of our tensors comes from.
        shapes: Shapes of our tensors.
        dropped: Released keys that no entry reads and that an ignore pattern names.
    """

    config: Any
    entries: tuple[Entry, ...]
    shapes: dict[str, Shape]
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """A released tensor as a part of one of ours.

    Attributes:
        ours: Our key; None: ours has no such tensor, because nothing reads it.
        rows: Its rows [first, last) in ours; None: all.
        shape: The released shape.
    """

    ours: str | None
    rows: tuple[int, int] | None
    shape: Shape


def dit_from_state_dict(state_dict: Mapping[str, Tensor], *, ignore: Iterable[str] = (), **config: Any) -> JDiT:
    """The released transformer as a `JDiT`: float32, eval mode, called as `dit(noisy, t, context)`.

    Args:
        state_dict: Tensors under the released keys; they are copied.
        ignore: Shell patterns of extra keys to drop; they never excuse a missing one.
        **config: Options under the release's names: patch_size, in_channels, hidden_size, depth, num_heads,
            kv_group, drop_path. All but num_heads are read off the tensors (it too at the released width, 2304).

    Raises:
        LavinditError: Keys are missing or unknown, or the config contradicts the tensors.
    """
    return _assemble(JDiT, match_dit(_shapes(state_dict), ignore, config), state_dict)


def vae_from_state_dict(state_dict: Mapping[str, Tensor], *, ignore: Iterable[str] = (), **config: Any) -> STVAE:
    """The released VAE as an `STVAE`: float32, eval mode, with the release's latent statistics.

    Args:
        state_dict: Tensors under the released keys; they are copied.
        ignore: Shell patterns of extra keys to drop; they never excuse a missing one.
        **config: Options under the release's names: block_out_channels, latent_channels, layers_per_block,
            norm_num_groups, temporal_compression_ratio. Tensors do not show norm_num_groups, 32 where it is not
            given; the others are read off them, or have one value.

    Raises:
        LavinditError: Keys are missing or unknown, or the config contradicts the tensors.
    """
    return _assemble(STVAE, match_vae(_shapes(state_dict), ignore, config), state_dict)


def dit_to_state_dict(jdit: JDiT) -> dict[str, Tensor]:
    """The released state dict of a transformer: keys, shapes and values as the released code loads them.

    Where the config leaves out what nothing reads (`full_last_block` False), the released keys hold zeros.

    Raises:
        LavinditError: The released code cannot express the config.
    """
    dit_options(jdit.config)
    return _disassemble(jdit, released_dit_pieces(jdit.config))


def vae_to_state_dict(vae: STVAE) -> dict[str, Tensor]:
    """The released state dict of a VAE.

    Raises:
        LavinditError: The released code cannot express the config, or has other latent statistics.
    """
    vae_options(vae.config)
    check_latent_statistics(vae.state_dict().__getitem__)
    return _disassemble(vae, released_vae_pieces(vae.config))


def match_dit(shapes: Shapes, ignore: Iterable[str] = (), config: Mapping[str, Any] | None = None) -> Match:
    """Match released transformer tensors, known by key and shape alone; arguments as `dit_from_state_dict`."""
    _refuse_prefix(shapes, "prompt_embed")
    ours = dit_config(shapes, config or {})
    return _match(ours, dit_entries(ours), meta_shapes(JDiT, ours), shapes, ignore)


def match_vae(shapes: Shapes, ignore: Iterable[str] = (), config: Mapping[str, Any] | None = None) -> Match:
    """Match released VAE tensors, known by key and shape alone; arguments as `vae_from_state_dict`."""
    _refuse_prefix(shapes, "encoder.conv_in.conv.weight")
    ours = vae_config(shapes, config or {})
    return _match(ours, vae_entries(ours), meta_shapes(STVAE, ours), shapes, ignore)


def released_dit_pieces(config: JDiTConfig) -> dict[str, Piece]:
    """Every released key of a transformer and where its values are in ours."""
    full = replace(config, full_last_block=True)
    return _pieces(dit_entries(full), meta_shapes(JDiT, full), held=meta_shapes(JDiT, config))


def released_vae_pieces(config: STVAEConfig) -> dict[str, Piece]:
    """Every released key of a VAE and where its values are in ours."""
    shapes = meta_shapes(STVAE, config)
    return _pieces(vae_entries(config), shapes, held=shapes)


def check_latent_statistics(read: Callable[[str], Tensor]) -> None:
    """Refuse a VAE whose latent statistics are not those that the released code applies.

    Raises:
        LavinditError: They differ.
    """
    for key, constant in LATENT_STATISTICS.items():
        if not (read(key).float().cpu() == torch.tensor(constant)).all():
            raise LavinditError(f"the released code applies {key} {constant} to every channel; this VAE has another")


def meta_shapes(network: type[nn.Module], config: Any) -> dict[str, Shape]:
    """Shapes of a network's tensors, without the memory."""
    with torch.device("meta"):
        return _shapes(network(config).state_dict())


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def _match(
    config: Any, entries: Iterable[Entry], ours: dict[str, Shape], found: Shapes, ignore: Iterable[str]
) -> Match:
    entries, patterns = tuple(entries), tuple(ignore)
    wanted = {key: shape for entry in entries for key, shape, _ in entry.pieces(ours[entry.ours])}
    for key, shape in wanted.items():
        if key in found and found[key] != shape:
            raise LavinditError(f"{key} has shape {list(found[key])}; the config asks for {list(shape)}")
    extra = [key for key in found if key not in wanted]
    dropped = tuple(key for key in extra if any(fnmatchcase(key, pattern) for pattern in patterns))
    _refuse_keys([key for key in wanted if key not in found], [key for key in extra if key not in dropped])
    return Match(config, entries, ours, dropped)


def _refuse_keys(missing: list[str], unknown: list[str]) -> None:
    faults = []
    if missing:
        faults.append(f"{_some(missing)} missing")
    if unknown:
        faults.append(f"{_some(unknown)} unknown to the released network; drop extra keys with --ignore PATTERN")
    if faults:
        raise LavinditError(" and ".join(faults))


def _some(keys: list[str]) -> str:
    shown = ", ".join(keys[:SHOWN_KEYS])
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return f"{shown}{more} {'is' if len(keys) == 1 else 'are'}"


def _refuse_prefix(shapes: Shapes, known: str) -> None:
    """Tell of a wrapper's name before every key; guessing it away might hide another file."""
    prefix = next((key.removesuffix(known) for key in shapes if key.endswith(f".{known}")), "")
    if prefix and known not in shapes:
        raise LavinditError(f"the keys start with {prefix!r}; take that away from their names first")


def _assemble(network: type[Any], match: Match, state_dict: Mapping[str, Tensor]) -> Any:
    with torch.device("meta"):
        made = network(match.config)
    weights = {
        entry.ours: entry.join(state_dict.__getitem__).detach().to(torch.float32, copy=True) for entry in match.entries
    }
    for key in match.shapes.keys() & LATENT_STATISTICS.keys():
        weights[key] = torch.full(match.shapes[key], LATENT_STATISTICS[key])
    made.load_state_dict(weights, assign=True)
    return made.eval()


def _disassemble(network: nn.Module, pieces: Mapping[str, Piece]) -> dict[str, Tensor]:
    weights = network.state_dict()
    some = next(network.parameters())

    def part(piece: Piece) -> Tensor:
        if piece.ours is None:
            return torch.zeros(piece.shape, dtype=some.dtype, device=some.device)
        tensor = weights[piece.ours]
        return (tensor if piece.rows is None else tensor[slice(*piece.rows)]).reshape(piece.shape).clone()

    return {key: part(piece) for key, piece in pieces.items()}


def _pieces(entries: Iterable[Entry], shapes: dict[str, Shape], held: dict[str, Shape]) -> dict[str, Piece]:
    return {
        key: Piece(entry.ours if entry.ours in held else None, rows, shape)
        for entry in entries
        for key, shape, rows in entry.pieces(shapes[entry.ours])
    }
