"""`lavindit encode`: the training mixture's episodes as latents on disk."""

import sys
from pathlib import Path
from typing import Any, get_args

import yaml
from jsonargparse import ActionConfigFile

from lavindit.cli import options, train
from lavindit.cli.configs import expand_configs, model_options
from lavindit.cli.progress import show_progress
from lavindit.cli.tools import PRECISIONS, find_device, use_threads
from lavindit.data import EpisodeData
from lavindit.data.latents import LatentWriter, latents_config, share_out
from lavindit.data.latents.description import Stored
from lavindit.errors import LavinditError
from lavindit.inference.sampler import Posterior
from lavindit.models import load_model, model_folder


class Parser(options.Parser):
    """The options of `encode`; of a config it reads `data`."""

    def __init__(self) -> None:
        super().__init__(description="Write a training mixture's episodes as latents.", allow_abbrev=False)
        self.add_argument("--config", action=ActionConfigFile, help="A file or a shipped config; may be repeated.")
        self.add_lightning_class_args(EpisodeData, "data")
        self.add_argument("--out", type=str, required=True, help="Folder for the latents.")
        self.add_argument("--episodes", type=int, required=True, help="Episodes, shared out by the tasks' weights.")
        self.add_argument("--vae", type=str | None, default=None, help="Model directory; default: the config's.")
        self.add_argument("--pairs", type=int | None, default=None, help="K of an episode; default: data.max_pairs.")
        self.add_argument("--dtype", type=Stored, default="float16", help="Type that latents are stored in.")
        self.add_argument(
            "--posterior",
            type=Posterior | None,
            default=None,
            help="sample also stores the standard deviations; default: as the config trains, else mean.",
        )
        self.add_argument("--batch_size", type=int, default=8, help="Episodes a pass of the VAE.")
        self.add_argument("--device", type=str, default="auto", help="cpu, cuda, cuda:1, ...")
        self.add_argument("--precision", type=str, default="float32", help=f"Weights: {', '.join(PRECISIONS)}.")
        self.add_argument("--threads", type=int | None, default=None, help="CPU threads; default: torch's own.")


def run_encode(arguments: list[str]) -> None:
    """Encode, or go on where an earlier command was interrupted.

    Raises:
        LavinditError: For what a person can mend.
    """
    chosen, data, folder = _parse(arguments)
    data.latents = None  # what is to be made need not be there
    data.setup("fit")
    use_threads(chosen.threads)
    bundle = load_model(folder, find_device(chosen.device), PRECISIONS[chosen.precision])
    weights = data.training_weights()
    config = latents_config(
        [task for task in data.trained_tasks if task.name in weights],
        data.source,
        data.pairs[1] if chosen.pairs is None else chosen.pairs,
        data.seed,
        bundle.vae.config,
        folder,
        std=chosen.posterior == "sample",
        dtype=chosen.dtype,
        precision=chosen.precision,
    )
    out, counts = Path(chosen.out), share_out(chosen.episodes, weights)
    writer = LatentWriter(bundle.vae, config, data.training_makers(), out, counts, chosen.batch_size, data.workers)
    try:
        with show_progress("encoding", lambda done, total: f"encoding: {done} of {total} episodes") as progress:
            description = writer.run(progress)
    except KeyboardInterrupt:
        print(f"\nlavindit: interrupted; finished shards in {out} are kept, the same command goes on", file=sys.stderr)
        raise
    size = sum(description.shards.values())
    found = sum(description.episodes.values())
    print(f"{found} episodes of {len(description.episodes)} tasks in {out}, {size / found / 1e3:.1f} kB each")
    print(f"train on them with `lavindit fit ... --data.latents {out}`")


def _parse(arguments: list[str]) -> tuple[Any, EpisodeData, Path]:
    """Options, data, and the folder of the VAE."""
    rest, model = _data_alone(train.name_tasks(expand_configs(arguments)))
    parser = Parser()
    with options.mistakes_in(arguments, "encode"):
        chosen = parser.parse_args(rest)
    for name, least in (("episodes", 1), ("batch_size", 1), ("pairs", 0)):
        value = getattr(chosen, name)
        if value is not None and value < least:
            raise LavinditError(f"--{name} must be at least {least}, got {value}")
    if chosen.precision not in PRECISIONS:
        raise LavinditError(f"unknown precision {chosen.precision!r}; there are {', '.join(PRECISIONS)}")
    chosen.posterior = chosen.posterior or model.get("posterior", get_args(Posterior)[0])
    if chosen.posterior not in get_args(Posterior):
        raise LavinditError(f"unknown posterior {chosen.posterior!r}; there are {', '.join(get_args(Posterior))}")
    vae = chosen.vae or model.get("vae")
    if vae is None:
        raise LavinditError("no VAE: name its model directory with --vae, or a config of a J-DiT with --config")
    return chosen, parser.instantiate_classes(chosen)["data"], model_folder(vae)


def _data_alone(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Arguments with what configs say about data alone, and the options that they give the model."""
    rest: list[str] = []
    model: dict[str, Any] = {}
    for argument in arguments:
        if rest and rest[-1] == "--config":
            content = yaml.safe_load(argument)
            model |= model_options(content, "that is given")
            argument = yaml.safe_dump({"data": content["data"]} if content.get("data") else {})
        rest.append(argument)
    return rest, model
