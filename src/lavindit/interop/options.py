"""The release's config names and ours: read off the tensors where they show it, and checked in both directions."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from lavindit.errors import LavinditError
from lavindit.interop.table import Shape
from lavindit.models import JDiTConfig, STVAEConfig

Shapes = Mapping[str, Shape]
LATENT_SHIFT, LATENT_SCALE = 0.032470703125, 1.08936170213
HEADS_OF_WIDTH = {2304: 32}
DIT_DEFAULTS = {
    "patch_size": 2,
    "in_channels": 16,
    "hidden_size": 2304,
    "depth": 22,
    "num_heads": None,
    "kv_group": 4,
    "drop_path": 0.0,
}
VAE_DEFAULTS = {
    "block_out_channels": (128, 256, 256, 512),
    "latent_channels": 16,
    "layers_per_block": 3,
    "norm_num_groups": 32,
    "temporal_compression_ratio": 4,
}
LEVELS, GROUPS, TIME_RATIO, MID_BLOCKS = 4, 32, 4, 2


def dit_config(shapes: Shapes, given: Mapping[str, Any]) -> JDiTConfig:
    """Our config for a released transformer.

    Args:
        shapes: Shapes of the released tensors, by key.
        given: Options under the release's names; they go before what the tensors show.

    Raises:
        LavinditError: An option is unknown, impossible, or missing and not to be read off the tensors.
    """
    _refuse_unknown(given, DIT_DEFAULTS)
    found = _drop_none(
        hidden_size=_size(shapes, (r"(prompt|answer)_embed", 1), (r"(x|cond)_embedder\.0\.weight", 0)),
        depth=_count(shapes, r"blocks\.(\d+)\."),
    )
    _refuse_contradiction("depth", given, found)
    options = DIT_DEFAULTS | found | dict(given)
    patch = _patch_side(options["patch_size"])
    token = _size(shapes, (r"(x|cond)_embedder\.0\.weight", 1))
    if "in_channels" not in given and token and token % patch**2 == 0:
        options["in_channels"] = token // patch**2
    keys = _size(shapes, (r"blocks\.\d+\.joint_attn\.(x|cond)_k\.weight", 0))
    if "kv_group" not in given and keys:
        options["kv_group"] = options["hidden_size"] // keys
    width = _whole("hidden_size", options["hidden_size"])
    heads = HEADS_OF_WIDTH.get(width) if options["num_heads"] is None else options["num_heads"]
    if heads is None:
        remedy = "give num_heads (--dit-config num_heads=N)"
        raise LavinditError(f"the heads of a transformer {width} wide do not show in its tensors; {remedy}")
    return _dit_config(
        {name: _whole(name, options[name]) for name in ("depth", "kv_group", "in_channels")}
        | {"patch_size": patch, "hidden_size": width, "num_heads": _whole("num_heads", heads)}
        | {"drop_path": _share("drop_path", options["drop_path"])}
    )


def dit_options(config: JDiTConfig) -> dict[str, Any]:
    """The release's options for a transformer of ours.

    Raises:
        LavinditError: The released code cannot express it.
    """
    options = {
        "patch_size": config.patch,
        "in_channels": config.latent_channels,
        "hidden_size": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "kv_group": config.queries_per_kv,
        "drop_path": config.drop_path,
    }
    _refuse_difference(config, _dit_config(options), ignored=("full_last_block", "rope_dims"))
    if len(set(config.axis_dims)) > 1:
        raise LavinditError(f"the released transformer has no rope_dims {config.axis_dims}, only equal thirds")
    return options


def vae_config(shapes: Shapes, given: Mapping[str, Any]) -> STVAEConfig:
    """Our config for a released VAE; arguments and errors as for `dit_config`."""
    _refuse_unknown(given, VAE_DEFAULTS)
    levels = _count(shapes, r"encoder\.down_blocks\.(\d+)\.")
    level = r"encoder\.down_blocks\.{}\.resnets\.0\.conv[12]\.conv\.(weight|bias)"
    widths = [_size(shapes, (level.format(i), 0)) for i in range(levels or 0)]
    head = _size(shapes, (r"encoder\.conv_out\.conv\.(weight|bias)", 0))
    found = _drop_none(
        block_out_channels=widths if widths and None not in widths else None,
        latent_channels=_size(shapes, (r"decoder\.conv_in\.conv\.weight", 1)) or (head // 2 if head else None),
        layers_per_block=_count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
    )
    _refuse_contradiction("layers_per_block", given, found)
    options = VAE_DEFAULTS | found | dict(given)
    if options["temporal_compression_ratio"] != TIME_RATIO:
        raise LavinditError(
            f"temporal_compression_ratio must be {TIME_RATIO}, got {options['temporal_compression_ratio']}"
        )
    return _vae_config(options)


def vae_options(config: STVAEConfig) -> dict[str, Any]:
    """The release's options for a VAE of ours.

    Raises:
        LavinditError: The released code cannot express it.
    """
    options = {
        "block_out_channels": list(config.widths),
        "latent_channels": config.latent_channels,
        "layers_per_block": config.encoder_blocks,
        "norm_num_groups": config.norm_groups,
        "temporal_compression_ratio": TIME_RATIO,
    }
    if len(config.widths) != LEVELS:
        raise LavinditError(f"the released VAE has no {len(config.widths)} levels, only {LEVELS}")
    _refuse_difference(config, _vae_config(options))
    return options


def _dit_config(options: Mapping[str, Any]) -> JDiTConfig:
    width, heads, group = options["hidden_size"], options["num_heads"], options["kv_group"]
    if width % heads or heads % group:
        raise LavinditError(f"hidden_size {width} must divide by num_heads {heads}, num_heads by kv_group {group}")
    if width // heads % 6:
        raise LavinditError(
            f"hidden_size {width} and num_heads {heads} make heads of {width // heads} channels; "
            "the released transformer splits them into even thirds"
        )
    return JDiTConfig(
        width=width,
        depth=options["depth"],
        heads=heads,
        queries_per_kv=group,
        latent_channels=options["in_channels"],
        patch=options["patch_size"],
        sandwich=True,
        drop_path=options["drop_path"],
        context_attention="joint",
        rope_rotation="half_split",
        rope_axes="tyx",
        full_last_block=True,
    )


def _vae_config(options: Mapping[str, Any]) -> STVAEConfig:
    widths = options["block_out_channels"]
    if not isinstance(widths, list | tuple) or len(widths) != LEVELS:
        raise LavinditError(f"block_out_channels must name {LEVELS} widths, got {widths}")
    widths = tuple(_whole("block_out_channels", width) for width in widths)
    groups = _whole("norm_num_groups", options["norm_num_groups"])
    if any(width % GROUPS or width % groups for width in widths):
        raise LavinditError(
            f"block_out_channels {list(widths)} must divide by norm_num_groups {groups} and by {GROUPS}, "
            "the groups of the released decoder's norms"
        )
    blocks = _whole("layers_per_block", options["layers_per_block"])
    return STVAEConfig(
        widths=widths,
        encoder_blocks=blocks,
        decoder_blocks=blocks + 1,
        mid_blocks=MID_BLOCKS,
        latent_channels=_whole("latent_channels", options["latent_channels"]),
        patch=1,
        norm_groups=groups,
        decoder_norm_groups=None if groups == GROUPS else GROUPS,
        norm="clip",
    )


def _size(shapes: Shapes, *places: tuple[str, int]) -> int | None:
    """Size at (pattern of a key, dimension), at the first of the places that is there."""
    for pattern, dimension in places:
        for key, shape in shapes.items():
            if len(shape) > dimension and re.fullmatch(pattern, key):
                return shape[dimension]
    return None


def _count(shapes: Iterable[str], pattern: str) -> int | None:
    """One more than the highest number that the pattern finds at the start of a key."""
    numbers = [int(match[1]) for match in map(re.compile(pattern).match, shapes) if match]
    return max(numbers) + 1 if numbers else None


def _drop_none(**found: Any) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}


def _refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise LavinditError(f"unknown config entry {', '.join(unknown)}; there are {', '.join(known)}")


def _refuse_contradiction(name: str, given: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """What names of keys show; sizes are compared key by key, which says more."""
    if name in given and name in found and given[name] != found[name]:
        raise LavinditError(f"the config says {name} {given[name]}, the keys show {found[name]}")


def _refuse_difference(config: Any, released: Any, ignored: Iterable[str] = ()) -> None:
    for entry in fields(config):
        ours, theirs = getattr(config, entry.name), getattr(released, entry.name)
        if entry.name not in ignored and ours != theirs:
            raise LavinditError(f"the released code has no {entry.name} {ours}, only {theirs}")


def _patch_side(value: Any) -> int:
    pair = value if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2 or pair[0] != pair[1]:
        raise LavinditError(f"patch_size must be a whole number or an equal pair, got {value}")
    return _whole("patch_size", pair[0])


def _whole(name: str, value: Any) -> int:
    return _checked(name, value, lambda: isinstance(value, int) and value > 0, "a whole number above 0")


def _share(name: str, value: Any) -> float:
    return _checked(name, value, lambda: isinstance(value, int | float) and 0 <= value < 1, "a number in [0, 1)")


def _checked(name: str, value: Any, right: Callable[[], bool], wanted: str) -> Any:
    if isinstance(value, bool) or not right():
        raise LavinditError(f"{name} must be {wanted}, got {value!r}")
    return value
