"""Model directories: weights as safetensors, everything else as JSON. Nothing in them can run code.

DIR/config.json          kind, configs, where the weights come from
DIR/stvae.safetensors    the VAE, with its latent statistics
DIR/jdit.safetensors     the transformer, where there is one
"""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lavindit.errors import LavinditError
from lavindit.models.jdit import JDiT, JDiTConfig
from lavindit.models.stvae import STVAE, STVAEConfig

FORMAT, FORMAT_VERSION = "lavindit-model", 1
CONFIG_NAME = "config.json"


@dataclass(frozen=True, eq=False)
class ModelBundle:
    """What a model directory holds.

    Attributes:
        vae: The VAE.
        jdit: The transformer; None in a directory that holds a VAE alone.
        info: Where the weights come from: resolution, tasks, steps, version, ...
    """

    vae: STVAE
    jdit: JDiT | None = None
    info: dict[str, Any] = field(default_factory=dict)


def save_model(bundle: ModelBundle, folder: Path | str) -> None:
    """Write a model directory under a temporary name, then put it in its place.

    Raises:
        LavinditError: The folder cannot be written.
    """
    folder = Path(folder)
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": "jdit" if bundle.jdit else "vae"}
    config |= {"stvae": asdict(bundle.vae.config), "info": bundle.info}
    networks: dict[str, nn.Module] = {"stvae": bundle.vae}
    if bundle.jdit is not None:
        config["jdit"] = asdict(bundle.jdit.config)
        networks["jdit"] = bundle.jdit
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    try:
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        new.mkdir(parents=True)
        for name, network in networks.items():
            weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
            save_file(weights, new / f"{name}.safetensors")
        (new / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise LavinditError(f"cannot write the model to {folder}: {error.strerror or error}") from error


def load_model(folder: Path | str, device: torch.device | str = "cpu") -> ModelBundle:
    """Read a model directory; networks come in eval mode.

    Raises:
        LavinditError: It is missing, of another kind, or damaged.
    """
    folder = Path(folder)
    config = _read_config(folder)
    try:
        vae = STVAE(STVAEConfig(**_tuples(config["stvae"])))
        jdit = JDiT(JDiTConfig(**_tuples(config["jdit"]))) if config["kind"] == "jdit" else None
    except (KeyError, TypeError, ValueError) as error:
        raise LavinditError(f"{folder / CONFIG_NAME} describes no network of this version: {error}") from error
    _load_weights(vae, folder / "stvae.safetensors")
    if jdit is not None:
        _load_weights(jdit, folder / "jdit.safetensors")
        jdit.to(device).eval()
    return ModelBundle(vae.to(device).eval(), jdit, config.get("info", {}))


def load_engine_model(folder: Path | str, device: torch.device | str = "cpu") -> tuple[STVAE, JDiT, dict[str, Any]]:
    """As `load_model`, but a transformer must be there.

    Raises:
        LavinditError: As `load_model`, or the directory holds a VAE alone.
    """
    bundle = load_model(folder, device)
    if bundle.jdit is None:
        raise LavinditError(f"{folder} holds a VAE alone; name a model directory with a J-DiT (kind jdit)")
    return bundle.vae, bundle.jdit, bundle.info


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    if folder.is_file():
        raise LavinditError(f"{folder} is a file; a lavindit model is a folder with {CONFIG_NAME} and safetensors")
    if not path.is_file():
        raise LavinditError(f"no model in {folder} ({CONFIG_NAME} is missing); `lavindit fit` writes one to RUN/model")
    try:
        config = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise LavinditError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise LavinditError(f"{path} is not a lavindit model; it says format {_format_of(config)!r}")
    if config.get("format_version") != FORMAT_VERSION or config.get("kind") not in ("vae", "jdit"):
        raise LavinditError(f"{path} is of a version or kind that this lavindit does not read; update lavindit")
    return config


def _format_of(config: Any) -> Any:
    return config.get("format") if isinstance(config, dict) else None


def _tuples(config: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def _load_weights(network: nn.Module, path: Path) -> None:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise LavinditError(f"cannot read the weights {path}: {error}; copy the model again") from error
    own = network.state_dict()
    wrong = sorted(set(own) ^ set(weights)) or [key for key in own if own[key].shape != weights[key].shape]
    if wrong:
        raise LavinditError(f"{path} does not fit its {CONFIG_NAME}: {', '.join(wrong[:5])}")
    network.load_state_dict(weights)
