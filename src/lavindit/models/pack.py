"""A model directory made ready to be handed on: weights of 16 bits, their hashes, and a card."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.models.released import model_folder
from lavindit.models.store import (
    CARD_NAME,
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

PACKED = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
UNKNOWN = "not stated"
TO_WRITE = """
## To be written

What a model directory does not know: the data it was trained on and their terms, the command, time and machine, its
figures with their protocol, and what it fails at.
"""


def pack_model(
    model: Path | str, out: Path | str, dtype: str = "float16", card: Path | str | None = None, overwrite: bool = False
) -> Path:
    """Write a model directory whose weights are rounded to a type and verified by SHA-256 whenever they are loaded.

    The latent statistics stay float32. The model is read tensor by tensor.

    Args:
        model: Model directory, run folder with one under `model/`, or name of a released model.
        out: The model directory to write.
        dtype: "float16", "bfloat16" or "float32".
        card: Text file that becomes MODEL_CARD.md; None: one is made of what the directory says of itself.
        overwrite: Replace a model directory that exists.

    Returns:
        The directory.

    Raises:
        LavinditError: There is no model, it does not fit into the type, the card cannot be read, or `out` exists or
            cannot be written.
    """
    folder, out = model_folder(model), Path(out)
    if dtype not in PACKED:
        raise LavinditError(f"unknown dtype {dtype!r}; there are {', '.join(PACKED)}")
    refuse_existing_model(out, overwrite)
    description = read_description(folder)
    description = replace(description, info=description.info | {"dtype": dtype})
    vae, jdit = make_networks(folder, description)
    networks: dict[str, nn.Module] = {VAE_NAME: vae} if jdit is None else {VAE_NAME: vae, JDIT_NAME: jdit}
    text = card_of(out.resolve().name, description, networks) if card is None else _read_card(Path(card))
    files = {name: open_weights(folder / name, network, description) for name, network in networks.items()}
    with new_model_folder(out, description, hashed=True) as new:
        (new / CARD_NAME).write_text(text, encoding="utf-8")
        for name, file in files.items():
            specs = _specs(file, networks[name], dtype)
            write_weights(new / name, specs, partial(_rounded, file, specs))
    return out


def card_of(name: str, description: ModelDescription, networks: Mapping[str, nn.Module]) -> str:
    """A model card in Markdown, of what a model directory says of itself.

    Args:
        name: Heading.
        description: Its config.json.
        networks: Its networks by the name of their weight file, to be counted.
    """
    info, jdit = description.info, description.jdit
    rows = {"Kind": "VAE alone" if jdit is None else "in-context model: VAE and J-DiT"}
    if jdit is not None:
        sizes = f"{_count(networks[JDIT_NAME])} parameters, width {jdit.width}, depth {jdit.depth}, heads {jdit.heads}"
        rows["J-DiT"] = f"{sizes}, context attention `{jdit.context_attention}`"
    rows["VAE"] = f"{_count(networks[VAE_NAME])} parameters, {description.vae.latent_channels} latent channels"
    rows["Weights"] = f"{info.get('dtype', UNKNOWN)}; latent statistics float32"
    rows["Resolution"] = f"{info['resolution']} px" if "resolution" in info else UNKNOWN
    tasks = info.get("tasks") or []
    rows["Tasks"] = f"{len(tasks)}: {', '.join(tasks)}" if tasks else UNKNOWN
    rows["Steps"] = str(info.get("steps", UNKNOWN))
    rows["Seed of training"] = str(info.get("seed", UNKNOWN))
    rows["Settings of an answer"] = _settings(info)
    rows["Made with lavindit"] = str(info.get("lavindit_version", UNKNOWN))
    rows["Source"] = str(info.get("source", UNKNOWN))
    rows["Licence"] = str(info.get("licence", UNKNOWN))
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"# Model card: {name}\n\n| | |\n|---|---|\n{table}\n{TO_WRITE}"


def _settings(info: Mapping[str, Any]) -> str:
    said = {"preset": info["preset"]} if "preset" in info else {}
    said |= {key: value for key, value in (info.get("sampling") or {}).items() if value is not None}
    own = ", ".join(info.get("task_sampling") or {})
    text = ", ".join(f"{key} {value}" for key, value in said.items()) or UNKNOWN
    return text + (f"; others for {own}" if own else "")


def _count(network: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in network.parameters()):,}"


def _read_card(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise LavinditError(f"cannot read the card {path}: {reason}; name a Markdown file") from error


def _specs(file: WeightsFile, network: nn.Module, dtype: str) -> dict[str, TensorSpec]:
    """Parameters take the new type. Buffers are statistics of the latent space: rounding would shift every latent."""
    parameters = dict(network.named_parameters())
    return {
        key: TensorSpec(PACKED[dtype if key in parameters else "float32"], spec.shape)
        for key, spec in file.specs.items()
    }


def _rounded(file: WeightsFile, specs: Mapping[str, TensorSpec], key: str) -> Tensor:
    value = file.read(key)
    rounded = value.to(DTYPES[specs[key].dtype])
    if not bool(rounded.isfinite().all()):
        reason = "too large for the type; take another --dtype" if value.isfinite().all() else "that are not finite"
        raise LavinditError(f"{file.path} holds values of {key} {reason}")
    return rounded
