"""The baseline's models on disk: a folder with config.json and a safetensors file a network."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from autoregressive.model import Decoder, DecoderConfig
from autoregressive.tokenizer import Tokenizer, TokenizerConfig
from lavindit.errors import LavinditError
from lavindit.files import write_atomically
from lavindit.models.weights import WeightsFile, file_sha256

CONFIG, TOKENIZER, DECODER = "config.json", "tokenizer.safetensors", "decoder.safetensors"
FORMAT = "lavindit-autoregressive-1"


@dataclass(frozen=True, eq=False)
class Baseline:
    """What a folder holds.

    Attributes:
        tokenizer: The tokenizer.
        decoder: The decoder; None in the folder of a tokenizer alone.
        info: Where the weights come from: minutes, steps, tasks, pairs, ...
    """

    tokenizer: Tokenizer
    decoder: Decoder | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> tuple[Tokenizer, Decoder]:
        """Both networks.

        Raises:
            LavinditError: There is a tokenizer alone.
        """
        if self.decoder is None:
            raise LavinditError("the model is a tokenizer alone; name the folder of a decoder")
        return self.tokenizer, self.decoder


def save_baseline(baseline: Baseline, folder: Path) -> None:
    """Write a folder; its config.json comes last, so that one without it is known to be unfinished.

    Raises:
        LavinditError: It cannot be written.
    """
    networks: dict[str, nn.Module] = {TOKENIZER: baseline.tokenizer}
    config: dict[str, Any] = {"format": FORMAT, "tokenizer": asdict(baseline.tokenizer.config), "info": baseline.info}
    if baseline.decoder is not None:
        networks[DECODER] = baseline.decoder
        config["decoder"] = asdict(baseline.decoder.config)
    for name, network in networks.items():
        write_atomically(folder / name, save({key: value.contiguous() for key, value in network.state_dict().items()}))
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def load_baseline(folder: Path) -> Baseline:
    """Read a folder; networks come in eval mode.

    Raises:
        LavinditError: There is none, or it is damaged.
    """
    if not (folder / CONFIG).is_file():
        raise LavinditError(f"no model of the autoregressive baseline in {folder}; autoregressive_train.py writes one")
    try:
        said = json.loads((folder / CONFIG).read_text())
        if said["format"] != FORMAT:
            raise ValueError(f"its format is {said['format']}")
        tokenizer = Tokenizer(TokenizerConfig.from_json(said["tokenizer"]))
        decoder = Decoder(DecoderConfig(**said["decoder"])) if "decoder" in said else None
        for network, name in ((tokenizer, TOKENIZER), (decoder, DECODER)):
            if network is not None:
                _fill(network, WeightsFile(folder / name))
        return Baseline(tokenizer, decoder, said["info"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise LavinditError(f"the model in {folder} cannot be read: {reason}; train it again") from error


def tokenizer_identity(folder: Path) -> Mapping[str, Any]:
    """What tells the tokenizer in a folder that `load_baseline` reads from others."""
    return {"sha256": file_sha256(folder / TOKENIZER)}


def _fill(network: nn.Module, file: WeightsFile) -> None:
    network.load_state_dict({key: file.read(key) for key in file.specs})
    network.eval()
