"""Prompts on disk: a safetensors file, bound to the model that compiled it. Reading it runs no code.

The metadata has `format`, `version`, a JSON text under `prompt` and the SHA-256 of that text; the text has the digest
of the tensors. Tensors: keys and values, the pairs as 8-bit pictures for reports, what the codec holds.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lavindit import __version__
from lavindit.codecs.stored import restore_codec, store_codec
from lavindit.errors import LavinditError
from lavindit.files import new_file
from lavindit.inference.engine import Engine
from lavindit.inference.presets import Settings
from lavindit.inference.prompt import (
    Prompt,
    check_asked,
    check_compiles,
    check_memory,
    mark_model,
    name_of,
    pair_of_pictures,
)
from lavindit.inference.prompt_task import TaskNote, find_task, note_task
from lavindit.inference.sampler import ReadPairs, SamplingConfig
from lavindit.models.jdit import KVCache
from lavindit.models.weights import WeightsFile, spec_of, write_weights
from lavindit.pictures import to_eight_bit
from lavindit.task import Task

FORMAT, VERSION = "lavindit-prompt", "1"
REMEDY = "compile it again with `lavindit compile`"
CODEC = "codec."


@dataclass(frozen=True)
class Description:
    """What the JSON text of a prompt says.

    Attributes:
        lavindit: Version that wrote it.
        task: Its task.
        codec: As `store_codec` gives it.
        settings: As in `Prompt`.
        model: `fingerprint` of the model.
        context_attention: Of the model.
        dtype: Of the model's weights, and of keys and values.
        frames: Latent frames that were read: of the pairs, and of what stands in their place without them.
        tensors: `digest` of all tensors of the file.
    """

    lavindit: str
    task: TaskNote
    codec: dict[str, Any]
    settings: Settings
    model: str
    context_attention: str
    dtype: str
    frames: dict[str, int]
    tensors: str


def save_prompt(engine: Engine, prompt: Prompt, path: Path | str, overwrite: bool = False) -> None:
    """Write a compiled prompt; whole, or not at all.

    Args:
        engine: The one that compiled it.
        prompt: The prompt.
        path: The file.
        overwrite: Replace a file that exists.

    Raises:
        LavinditError: The file exists or cannot be written; another model compiled the prompt; task or codec are of a
            class that no file can name.
    """
    path = Path(path)
    refuse_existing_prompt(path, overwrite)
    check_asked(prompt, engine.vae, engine.jdit)
    codec, codec_tensors = store_codec(prompt.codec)
    tensors = {CODEC + key: value for key, value in codec_tensors.items()}
    caches = {name: cache for name, cache in vars(prompt.read).items() if cache is not None}
    for name, cache in caches.items():
        tensors |= {f"{name}.keys": cache.keys, f"{name}.values": cache.values}
    for half in ("input", "target"):
        tensors[f"pictures.{half}"] = torch.stack([to_eight_bit(getattr(pair, half)) for pair in prompt.pairs])
    description = Description(
        lavindit=__version__,
        task=note_task(prompt),
        codec=codec,
        settings=prompt.settings,
        model=fingerprint(engine),
        context_attention=engine.jdit.config.context_attention,
        dtype=name_of(prompt.read.pairs.keys.dtype),
        frames={name: cache.frames for name, cache in caches.items()},
        tensors=digest(tensors),
    )
    text = json.dumps(asdict(description), allow_nan=False)
    metadata = {"format": FORMAT, "version": VERSION, "prompt": text, "sha256": _sha256(text)}
    with new_file(path) as temporary:
        write_weights(temporary, {key: spec_of(tensors[key]) for key in tensors}, tensors.__getitem__, metadata)


def load_prompt(engine: Engine, path: Path | str, plugin: Path | str | None = None) -> Prompt:
    """Read a prompt that the engine's model has compiled.

    Args:
        engine: The one that is to ask it.
        path: The file.
        plugin: Where its task is a plugin's, that plugin's file.

    Raises:
        LavinditError: The file is no prompt, damaged or of another version, model or type of weights; its task is
            not here, or has another version; keys and values do not fit into memory.
    """
    return PromptFile(path, plugin).load(engine)


class PromptFile:
    """A prompt on disk: what it says, before its tensors are read.

    Args:
        path: The file.
        plugin: Where its task is a plugin's, that plugin's file.

    Attributes:
        description: What it says.

    Raises:
        LavinditError: It is no prompt, damaged, or of another version.
    """

    def __init__(self, path: Path | str, plugin: Path | str | None = None) -> None:
        self.path, self.plugin = Path(path), plugin
        if self.path.is_dir():
            raise LavinditError(f"{path} is a folder, no prompt; a folder of pairs is named with --task")
        if not self.path.exists():
            raise LavinditError(f"no such prompt: {path}; `lavindit compile` writes one")
        self._file = WeightsFile(self.path, REMEDY, what="prompt")
        said = self._file.metadata
        if said.get("format") != FORMAT:
            raise LavinditError(f"{path} is no prompt; `lavindit compile` writes one")
        if said.get("version") != VERSION:
            raise LavinditError(
                f"{path} is a prompt of version {said.get('version')}, this lavindit reads version {VERSION}; {REMEDY}"
            )
        text = said.get("prompt", "")
        if _sha256(text) != said.get("sha256"):
            raise self._damaged("its description is not what was written")
        try:
            self.description = _described(json.loads(text))
        except (AttributeError, KeyError, TypeError, ValueError, LavinditError) as error:
            raise self._damaged(str(error)) from error

    def task(self) -> Task:
        """The task that the pairs show.

        Raises:
            LavinditError: It is not here, or has another version.
        """
        return find_task(self.description.task, self.plugin)

    def load(self, engine: Engine) -> Prompt:
        """As `load_prompt`."""
        said = self.description
        self._check_model(engine)
        task, weights = self.task(), next(engine.jdit.parameters())
        frames = sum(said.frames.values())
        check_memory(engine.jdit.config, frames, said.settings.resolution, weights.dtype, weights.device)
        tensors = {key: self._file.read(key) for key in self._file.specs}
        if digest(tensors) != said.tensors:
            raise self._damaged("its tensors are not what was written")
        try:
            caches = {
                name: KVCache(tensors[f"{name}.keys"], tensors[f"{name}.values"], count).to(weights.device)
                for name, count in said.frames.items()
            }
            halves = (tensors[f"pictures.{half}"].float() / 255 for half in ("input", "target"))
            pairs = tuple(pair_of_pictures(*pair) for pair in zip(*halves, strict=True))
            own = {key.removeprefix(CODEC): value for key, value in tensors.items() if key.startswith(CODEC)}
            codec = restore_codec(said.codec, own)
            mark = mark_model(engine.vae, engine.jdit)
            return Prompt(task, codec, pairs, ReadPairs(**caches), said.settings, mark, said.task.named)
        except (KeyError, TypeError, ValueError, LavinditError) as error:
            raise self._damaged(str(error)) from error

    def _check_model(self, engine: Engine) -> None:
        check_compiles(engine.jdit)
        said, mode = self.description, engine.jdit.config.context_attention
        dtype = name_of(next(engine.jdit.parameters()).dtype)
        if said.context_attention != mode:
            raise LavinditError(
                f"{self.path} was compiled by a model with context_attention: {said.context_attention}, this one has "
                f"{mode}; name that model, or {REMEDY}"
            )
        if said.dtype != dtype:
            raise LavinditError(
                f"{self.path} was compiled in {said.dtype}, this model is loaded in {dtype}: use "
                f"--precision {said.dtype}, in Python dtype=torch.{said.dtype}"
            )
        if said.model != (found := fingerprint(engine)):
            raise LavinditError(
                f"{self.path} was compiled by another model ({said.model[:12]}; this one is {found[:12]}); name that "
                f"model, or {REMEDY}"
            )

    def _damaged(self, reason: str) -> LavinditError:
        return LavinditError(f"the prompt {self.path} is damaged: {reason}; {REMEDY}")


def refuse_existing_prompt(path: Path, overwrite: bool) -> None:
    """Refuse a file that would be lost.

    Raises:
        LavinditError: It exists and may not be replaced, or is a folder.
    """
    if path.is_dir():
        raise LavinditError(f"{path} is a folder; name a file for the prompt")
    if path.exists() and not overwrite:
        raise LavinditError(f"{path} exists; choose another --out or add --overwrite")


def fingerprint(engine: Engine) -> str:
    """SHA-256 that stands for an engine's model: its options and its weights as they are loaded, on whatever device."""
    networks = {"vae": engine.vae, "jdit": engine.jdit}
    weights = {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}
    options = json.dumps({name: asdict(network.config) for name, network in networks.items()}, sort_keys=True)
    return _sha256(options + digest(weights))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values."""
    found = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        found.update(f"{key} {spec_of(tensor)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _described(said: dict[str, Any]) -> Description:
    """The description of a JSON text."""
    settings = said["settings"]
    settings = Settings(**settings | {"sampling": SamplingConfig(**settings["sampling"])})
    if not all(isinstance(count, int) for count in (settings.resolution, *said["frames"].values())):
        raise ValueError("its sizes are no whole numbers")
    return Description(**said | {"task": TaskNote(**said["task"]), "settings": settings})


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
