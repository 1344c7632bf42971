"""Train the autoregressive baseline: tokenizer, tokens of the mixture's episodes, decoder.

    python benchmarks/autoregressive_train.py tokenizer --run runs/ar_tokenizer --start nano \
        --config experiment/nano_vae.yaml --minutes 20
    python benchmarks/autoregressive_train.py tokens --tokenizer runs/ar_tokenizer/model --out runs/ar_tokens \
        --config experiment/nano.yaml --episodes 8000
    python benchmarks/autoregressive_train.py decoder --tokens runs/ar_tokens --tokenizer runs/ar_tokenizer/model \
        --like runs/nano_45 --config experiment/nano.yaml --run runs/ar --minutes 45

The decoder has as many parameters as the J-DiT of the model in --like, within 3 % (or as --parameters says). All three
may be interrupted: the same command goes on. What the baseline is: `autoregressive/__init__.py`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lavindit  # noqa: F401  (first: it repairs torchvision)

# isort: split
from torch import nn

from autoregressive.data import (
    DESCRIPTION,
    Pictures,
    TokenMixture,
    TokenSet,
    describe_tokens,
    held_out_loss,
    image_tasks,
    mixture_of,
    read_data,
    use_of_codes,
    write_tokens,
)
from autoregressive.model import Decoder, match_parameters, next_token_loss
from autoregressive.store import Baseline, load_baseline, save_baseline, tokenizer_identity
from autoregressive.tokenizer import NANO_VAE, Tokenizer, TokenizerConfig, tokenizer_loss
from autoregressive.train import Plan, Run, seed_weights
from cells import run_script
from lavindit.cli.progress import show_progress
from lavindit.cli.tools import use_threads
from lavindit.errors import LavinditError
from lavindit.models import load_model, model_folder
from lavindit.models.jdit.cost import count_parameters
from lavindit.models.store import read_description

OPTIONS = ("lr", "ema_decay", "warmup_steps", "decay_share", "store_every", "seed")
"""Of a `Plan`, those with one name in both."""


def train_tokenizer(chosen: argparse.Namespace) -> None:
    """The tokenizer, on pictures of the mixture."""
    data = read_data(chosen.config, chosen.photos)
    start = None if chosen.start is None else load_model(chosen.start).vae
    config = TokenizerConfig(chosen.codes, chosen.token_px, NANO_VAE if start is None else start.config)
    seed_weights(chosen.seed)
    network, average = Tokenizer(config), Tokenizer(config)
    if start is not None:
        network.start_from(start)
    pictures = Pictures(data, chosen.batch_size)
    identity = {
        "config": chosen.config,
        "network": repr(config),
        "start": str(chosen.start),
        "photos": chosen.photos,
        "batch": chosen.batch_size,
    }
    run = Run(network, average, plan_of(chosen), chosen.run, identity)

    def export(trained: nn.Module, folder: Path, said: dict[str, Any]) -> None:
        assert isinstance(trained, Tokenizer)
        save_baseline(Baseline(trained, info=said), folder)

    report(run.train(lambda step: tokenizer_loss(network, pictures[step]), export), chosen.run)


def store_tokens(chosen: argparse.Namespace) -> None:
    """The mixture's episodes as tokens."""
    baseline, identity = load_baseline(chosen.tokenizer), tokenizer_identity(chosen.tokenizer)
    with show_progress("tokens", lambda done, total: f"tokens: {done} of {total} episodes") as progress:
        counts = write_tokens(
            baseline.tokenizer, read_data(chosen.config, chosen.photos), chosen.out, chosen.episodes, identity, progress
        )
    used, perplexity = use_of_codes(TokenSet.read(chosen.out))
    print(f"{sum(counts.values())} episodes of {len(counts)} tasks in {chosen.out}")
    print(f"{used} of {baseline.tokenizer.config.codes} codes are used, perplexity {perplexity:.0f}")


def train_decoder(chosen: argparse.Namespace) -> None:
    """The decoder, on stored tokens."""
    data, store = read_data(chosen.config, chosen.photos), TokenSet.read(chosen.tokens)
    trained, identity = load_baseline(chosen.tokenizer), tokenizer_identity(chosen.tokenizer)
    tokenizer, tokenizer_info = trained.tokenizer, trained.info
    tasks, pairs = image_tasks(data), data.pairs[1]
    wanted = describe_tokens(data, tasks, pairs, identity)
    for key, value in wanted.items():
        if store.description[key] != value:
            raise LavinditError(f"{chosen.tokens / DESCRIPTION} is of another {key} than --config; write tokens for it")
    config = match_parameters(parameters_like(chosen), tokenizer.config.codes)
    seed_weights(chosen.seed)
    network, average = Decoder(config), Decoder(config)
    if chosen.compile:
        for block in network.blocks:
            block.compile(dynamic=False)
    stream = TokenMixture(mixture_of(data, tasks, chosen.batch_size, data.pairs), store)
    options = {name: getattr(chosen, name) for name in ("config", "batch_size", "on_targets", "compile")}
    run = Run(network, average, plan_of(chosen), chosen.run, options | asdict(config) | {"tokens": identity["sha256"]})

    def export(trained: nn.Module, folder: Path, said: dict[str, Any]) -> None:
        assert isinstance(trained, Decoder)
        facts = {"tasks": [task.name for task in tasks], "max_pairs": pairs, "resolution": data.source.resolution}
        facts |= {"episodes": store.description["episodes"], "photographs": chosen.photos is not None}
        loss = held_out_loss(tokenizer, trained, data, chosen.val_samples)
        print(f"held-out loss of the targets' tokens: {loss['all']:.4f}", file=sys.stderr)
        facts |= {"held_out_loss": loss, "of_tokenizer": tokenizer_info}
        save_baseline(Baseline(tokenizer, trained, said | facts), folder)

    print(f"decoder of {config.parameters / 1e6:.2f} M parameters: {config}", file=sys.stderr)
    report(run.train(lambda step: next_token_loss(network, *stream[step], chosen.on_targets), export), chosen.run)


def parameters_like(chosen: argparse.Namespace) -> int:
    """Parameters that the decoder is to have.

    Raises:
        LavinditError: Neither a number nor a model with a J-DiT is named.
    """
    if chosen.parameters is not None:
        return chosen.parameters
    if chosen.like is None:
        raise LavinditError("name the model that is compared with --like, or a number with --parameters")
    jdit = read_description(model_folder(chosen.like)).jdit
    if jdit is None:
        raise LavinditError(f"{chosen.like} holds a VAE alone; name a whole model with --like")
    return sum(count_parameters(jdit).values())


def plan_of(chosen: argparse.Namespace) -> Plan:
    """How a network trains, as the options say."""
    if chosen.minutes is None and chosen.max_steps is None:
        raise LavinditError("say how long: --minutes, or --max_steps")
    if any(value is not None and value <= 0 for value in (chosen.minutes, chosen.max_steps)):
        raise LavinditError("--minutes and --max_steps must be more than 0")
    said = {name: getattr(chosen, name) for name in OPTIONS}
    said |= {} if chosen.max_steps is None else {"max_steps": chosen.max_steps}
    return Plan(chosen.minutes, snapshots=tuple(sorted(chosen.snapshots)), **said)


def report(said: dict[str, Any], run: Path) -> None:
    """What a training ends with."""
    print(f"{said['steps']} steps in {said['minutes']:.1f} minutes; the model is in {run / 'model'}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    every = {name: commands.add_parser(name) for name in ("tokenizer", "tokens", "decoder")}
    for command in every.values():
        command.add_argument("--config", required=True, help="a config whose data is trained on")
        command.add_argument("--photos", help="folder of photographs, if our model was trained with one")
        command.add_argument("--threads", type=int, help="threads on a CPU; default: torch's")
    every["tokenizer"].add_argument("--start", type=Path, help="model directory whose VAE it starts from")
    every["tokenizer"].add_argument("--codes", type=int, default=1000, help="size of the codebook")
    every["tokenizer"].add_argument("--token_px", type=int, default=8, help="side of what a token stands for: 8, 16")
    every["tokens"].add_argument("--out", type=Path, required=True, help="folder of the tokens")
    every["tokens"].add_argument("--episodes", type=int, required=True, help="of the mixture, clips included")
    every["decoder"].add_argument("--tokens", type=Path, required=True, help="folder of the tokens")
    every["decoder"].add_argument("--like", type=Path, help="model whose number of parameters it takes")
    every["decoder"].add_argument("--parameters", type=int, help="parameters, in place of --like")
    every["decoder"].add_argument("--val_samples", type=int, default=16, help="episodes a task of the held-out loss")
    every["decoder"].add_argument("--on_targets", action="store_true", help="loss of the targets' tokens alone")
    every["decoder"].add_argument("--no-compile", dest="compile", action="store_false", help="do not compile blocks")
    for name in ("tokens", "decoder"):
        every[name].add_argument("--tokenizer", type=Path, required=True, help="folder of the trained tokenizer")
    for name, lr, batch, decay in (("tokenizer", 4e-3, 16, 0.998), ("decoder", 6e-3, 4, 0.999)):
        command = every[name]
        command.add_argument("--run", type=Path, required=True, help="folder of the run")
        command.add_argument("--minutes", type=float, help="time of training")
        command.add_argument("--max_steps", type=int)
        command.add_argument("--lr", type=float, default=lr)
        command.add_argument("--batch_size", type=int, default=batch, help="pictures, or sentences, a step")
        command.add_argument("--ema_decay", type=float, default=decay)
        command.add_argument("--warmup_steps", type=int, default=50)
        command.add_argument("--decay_share", type=float, default=0.4)
        command.add_argument("--snapshots", nargs="*", type=float, default=[], help="minutes at which weights are kept")
        command.add_argument("--store_every", type=float, default=2.0, help="minutes between checkpoints")
        command.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the three."""
    chosen = parse(arguments)
    use_threads(chosen.threads)
    {"tokenizer": train_tokenizer, "tokens": store_tokens, "decoder": train_decoder}[chosen.command](chosen)


if __name__ == "__main__":
    run_script(main)
