"""`lavindit compile | append`: prompts on disk."""

import argparse
import time
from pathlib import Path

from lavindit.cli.tools import (
    Parser,
    add_model_options,
    add_pair_options,
    add_plugin_option,
    load_chosen,
    pair_options,
    print_notes,
)
from lavindit.inference import Engine, Prompt, PromptFile, save_prompt
from lavindit.inference.prompt_file import refuse_existing_prompt
from lavindit.task import get_task


def run_compile(arguments: list[str]) -> None:
    """Read a task's pairs once and write what a model keeps of them."""
    parser = Parser("lavindit compile", description="Read a task's pairs once, for any number of `lavindit apply`.")
    parser.add_argument("--task", required=True, help="a task, a plugin file or a folder of pairs")
    add_pair_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of pairs (default 0)")
    chosen = _chosen(parser, arguments)
    options = pair_options(chosen)
    get_task(chosen.task)  # a slip is told before anything is loaded
    engine, folder = load_chosen(chosen)
    start = time.perf_counter()
    prompt = engine.compile(chosen.task, seed=chosen.seed, preset=chosen.preset, **options)
    _write(engine, prompt, chosen, f"in {time.perf_counter() - start:.1f} s by the model {folder}")
    print_notes(engine, prompt.task, prompt.settings, asked_size=chosen.resolution is not None)


def run_append(arguments: list[str]) -> None:
    """Add a pair to a prompt, without reading the others again."""
    parser = Parser("lavindit append", description="Add a pair to a prompt of a causal model.")
    parser.add_argument("--prompt", required=True, type=Path, metavar="FILE", help="a prompt of `lavindit compile`")
    add_plugin_option(parser)
    for half, what in (("input", "input"), ("target", "target, as a picture in the prompt's colours")):
        parser.add_argument(f"--{half}", required=True, type=Path, metavar="FILE", help=f"the pair's {what}")
    chosen = _chosen(parser, arguments)
    file = PromptFile(chosen.prompt, chosen.plugin)
    engine, folder = load_chosen(chosen)
    prompt = file.load(engine)
    start = time.perf_counter()
    prompt = engine.append(prompt, chosen.input, chosen.target)
    _write(engine, prompt, chosen, f"one of them added in {time.perf_counter() - start:.1f} s by the model {folder}")


def _chosen(parser: Parser, arguments: list[str]) -> argparse.Namespace:
    """The arguments, with those that both commands have."""
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="file for the prompt")
    add_model_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    chosen = parser.parse_args(arguments)
    refuse_existing_prompt(chosen.out, chosen.overwrite)
    return chosen


def _write(engine: Engine, prompt: Prompt, chosen: argparse.Namespace, how: str) -> None:
    save_prompt(engine, prompt, chosen.out, chosen.overwrite)
    size, count = chosen.out.stat().st_size / 1e6, len(prompt.pairs)
    print(f"wrote {chosen.out}: {prompt.task.name}, {count} {'pair' if count == 1 else 'pairs'}, {size:,.1f} MB, {how}")
