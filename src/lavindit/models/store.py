"""Model directories: weights as safetensors, everything else as JSON. Nothing in them can run code.

DIR/config.json          kind, configs, where the weights come from; of a packed one the SHA-256 of each weight file
DIR/stvae.safetensors    the VAE, with its latent statistics
DIR/jdit.safetensors     the transformer, where there is one
DIR/MODEL_CARD.md        of a packed one: what it is and what it is good for
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lavindit.errors import LavinditError
from lavindit.files import put_in_place, remove
from lavindit.models.jdit import JDiT, JDiTConfig
from lavindit.models.released import CONFIG_NAME, model_folder, no_model
from lavindit.models.stvae import STVAE, STVAEConfig
from lavindit.models.weights import WeightsFile, file_sha256, spec_of, write_weights

FORMAT, FORMAT_VERSION = "lavindit-model", 1
VAE_NAME, JDIT_NAME, CARD_NAME = "stvae.safetensors", "jdit.safetensors", "MODEL_CARD.md"


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


@dataclass(frozen=True)
class ModelDescription:
    """What the config.json of a model directory says.

    Attributes:
        vae: Config of the VAE.
        jdit: Config of the transformer; None in a directory that holds a VAE alone.
        info: As in `ModelBundle`.
        sha256: Of each weight file, by its name; empty where none is recorded.
    """

    vae: STVAEConfig
    jdit: JDiTConfig | None = None
    info: dict[str, Any] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its weight files."""
        return (VAE_NAME,) if self.jdit is None else (VAE_NAME, JDIT_NAME)


def save_model(bundle: ModelBundle, folder: Path | str) -> None:
    """Write a model directory under a temporary name, then put it in its place.

    Raises:
        LavinditError: The folder cannot be written.
    """
    networks: dict[str, nn.Module] = {VAE_NAME: bundle.vae}
    if bundle.jdit is not None:
        networks[JDIT_NAME] = bundle.jdit
    jdit_config = None if bundle.jdit is None else bundle.jdit.config
    with new_model_folder(folder, ModelDescription(bundle.vae.config, jdit_config, bundle.info)) as new:
        for name, network in networks.items():
            weights = network.state_dict()
            specs = {key: spec_of(value) for key, value in weights.items()}
            write_weights(new / name, specs, weights.__getitem__)


@contextmanager
def new_model_folder(folder: Path | str, description: ModelDescription, hashed: bool = False) -> Iterator[Path]:
    """A folder with a temporary name to write weights into; put in the place of `folder` if all goes well.

    Args:
        folder: The model directory.
        description: What its config.json will say.
        hashed: Record the SHA-256 of each weight file, to be verified whenever it is opened.

    Raises:
        LavinditError: The folder cannot be written.
    """
    folder = Path(folder)
    new = folder.with_name(f".{folder.name}.new")
    try:
        try:
            remove(new)
            new.mkdir(parents=True)
            yield new
            hashes = {name: file_sha256(new / name) for name in description.files} if hashed else {}
            config = _config_of(replace(description, sha256=hashes))
            (new / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n")
            put_in_place(new, folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise LavinditError(f"cannot write the model to {folder}: {error.strerror or error}") from error


def refuse_existing_model(out: Path, overwrite: bool) -> None:
    """Refuse an output folder that exists, or that is no model directory and so not ours to replace.

    Raises:
        LavinditError: As said.
    """
    if not out.exists():
        return
    if not overwrite:
        raise LavinditError(f"{out} exists; choose another --out or add --overwrite")
    own = {CONFIG_NAME, VAE_NAME, JDIT_NAME, CARD_NAME}
    if not out.is_dir() or {path.name for path in out.iterdir()} - own:
        raise LavinditError(f"{out} holds other things than a model; choose another --out")


def load_model(
    folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ModelBundle:
    """Read a model directory; networks come in eval mode.

    The networks are made without memory and get each tensor as it is read, so the peak is one copy of the weights.

    Args:
        folder: The model directory, a run folder with one under `model/`, or the name of a released model.
        device: Where the networks live.
        dtype: Type of all parameters, whatever type the files hold. The latent statistics stay in float32.

    Raises:
        LavinditError: It is missing, of another kind, or damaged; or a weight file is not the one that was recorded.
    """
    folder = model_folder(folder)
    description = read_description(folder)
    vae, jdit = make_networks(folder, description)
    _load_weights(vae, open_weights(folder / VAE_NAME, vae, description), device, dtype)
    if jdit is not None:
        _load_weights(jdit, open_weights(folder / JDIT_NAME, jdit, description), device, dtype)
    return ModelBundle(vae, jdit, description.info)


def load_engine_model(
    folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[STVAE, JDiT, dict[str, Any]]:
    """As `load_model`, but a transformer must be there.

    Raises:
        LavinditError: As `load_model`, or the directory holds a VAE alone.
    """
    bundle = load_model(folder, device, dtype)
    if bundle.jdit is None:
        raise LavinditError(f"{folder} holds a VAE alone; name a model directory with a J-DiT (kind jdit)")
    return bundle.vae, bundle.jdit, bundle.info


def read_description(folder: Path) -> ModelDescription:
    """Read the config.json of a model directory.

    Raises:
        LavinditError: It is missing, of another format or version, or describes no network.
    """
    config = _read_config(folder)
    try:
        vae = STVAEConfig(**_tuples(config["stvae"]))
        jdit = JDiTConfig(**_tuples(config["jdit"])) if config["kind"] == "jdit" else None
        description = ModelDescription(vae, jdit, config.get("info", {}), dict(config.get("sha256", {})))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _no_network(folder, error) from error
    if description.sha256 and set(description.sha256) != set(description.files):
        files = " and ".join(description.files)
        raise LavinditError(f"{folder / CONFIG_NAME} must record a sha256 of {files}, or none; copy the model again")
    return description


def make_networks(folder: Path, description: ModelDescription) -> tuple[STVAE, JDiT | None]:
    """The networks that a directory describes, on the meta device: shapes without memory.

    Raises:
        LavinditError: The sizes make no network.
    """
    try:
        with torch.device("meta"):
            return STVAE(description.vae), None if description.jdit is None else JDiT(description.jdit)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise _no_network(folder, error) from error


def open_weights(path: Path, network: nn.Module, description: ModelDescription) -> WeightsFile:
    """Open a weight file of a model directory; compare it with its recorded hash, if there is one, and its network.

    Raises:
        LavinditError: The file is damaged, is not the one that was recorded, or has other tensors than the network.
    """
    if path.name in description.sha256:
        _check_hash(path, description.sha256[path.name])
    file = WeightsFile(path, remedy="copy the model again")
    own = network.state_dict()
    wrong = sorted(set(own) ^ set(file.specs)) or [key for key in own if own[key].shape != file.specs[key].shape]
    if wrong:
        raise LavinditError(f"{path} does not fit its {CONFIG_NAME}: {', '.join(wrong[:5])}")
    return file


def _config_of(description: ModelDescription) -> dict[str, Any]:
    kind = "vae" if description.jdit is None else "jdit"
    config: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind}
    config |= {"stvae": asdict(description.vae), "info": description.info}
    if description.sha256:
        config["sha256"] = dict(description.sha256)
    return config if description.jdit is None else config | {"jdit": asdict(description.jdit)}


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    if folder.is_file():
        raise LavinditError(f"{folder} is a file; a lavindit model is a folder with {CONFIG_NAME} and safetensors")
    if not path.is_file():
        raise no_model(folder)
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


def _no_network(folder: Path, error: Exception) -> LavinditError:
    return LavinditError(f"{folder / CONFIG_NAME} describes no network of this version: {error}")


def _check_hash(path: Path, recorded: str) -> None:
    try:
        found = file_sha256(path)
    except OSError as error:
        raise LavinditError(
            f"cannot read the weights {path}: {error.strerror or error}; copy the model again"
        ) from error
    if found != recorded:
        raise LavinditError(
            f"{path} is not the file that its {CONFIG_NAME} records (SHA-256 {found[:12]}..., not "
            f"{str(recorded)[:12]}...); copy the model again, or install lavindit again if the model came with it"
        )


def _load_weights(network: nn.Module, file: WeightsFile, device: torch.device | str, dtype: torch.dtype) -> None:
    parameters = dict(network.named_parameters())
    # Statistics of the latent space are buffers; rounding them would shift every latent.
    weights = {
        key: file.read(key).to(device=device, dtype=dtype if key in parameters else torch.float32) for key in file.specs
    }
    network.load_state_dict(weights, assign=True)
    network.eval()
