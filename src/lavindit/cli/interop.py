"""`lavindit import-official | export-official`."""

import argparse
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.progress import DownloadColumn

from lavindit.cli.progress import show_progress
from lavindit.cli.tools import Parser
from lavindit.errors import LavinditError
from lavindit.interop import convert


def run_import_official(arguments: list[str]) -> None:
    """Make a model directory of released weights."""
    parser = Parser(
        "lavindit import-official", description="Make a model directory of released weights.", allow_abbrev=False
    )
    parser.add_argument("--vae", required=True, type=Path, metavar="FILE", help="released VAE: safetensors or stvae.pt")
    parser.add_argument("--dit", type=Path, metavar="FILE", help="released transformer; without it, a VAE alone")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="model directory to write")
    parser.add_argument(
        "--ignore", action="extend", nargs="+", default=[], metavar="PATTERN", help="extra keys to drop"
    )
    for name in ("--dit-config", "--vae-config"):
        text = "options under the release's names, key=value or JSON (default: from the file)"
        parser.add_argument(name, action="extend", nargs="+", default=[], metavar="KEY=VALUE", help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace a model directory that exists")
    chosen = parser.parse_args(arguments)
    configs = {"dit_config": _options("--dit-config", chosen), "vae_config": _options("--vae-config", chosen)}
    if configs["dit_config"] and chosen.dit is None:
        raise LavinditError("--dit-config is given without --dit")
    with _show_progress("importing") as progress:
        dropped = convert.import_official(
            chosen.vae,
            chosen.dit,
            chosen.out,
            ignore=chosen.ignore,
            overwrite=chosen.overwrite,
            progress=progress,
            **configs,
        )
    for path, keys in dropped.items():
        for key in keys:
            print(f"dropped {key} of {path}")
    for path in sorted(chosen.out.glob("*.safetensors")):
        print(f"wrote {path} ({path.stat().st_size / 1e6:,.1f} MB)")


def run_export_official(arguments: list[str]) -> None:
    """Write a model directory as released weights."""
    parser = Parser(
        "lavindit export-official", description="Write a model directory as released weights.", allow_abbrev=False
    )
    parser.add_argument("--model", required=True, type=Path, metavar="DIR", help="model directory")
    parser.add_argument("--dit", type=Path, metavar="FILE", help="safetensors file for the transformer")
    parser.add_argument("--vae", type=Path, metavar="FILE", help="safetensors file for the VAE")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    chosen = parser.parse_args(arguments)
    files = [path for path in (chosen.dit, chosen.vae) if path is not None]
    if not files:
        raise LavinditError("nothing to write; name a file with --dit, --vae or both")
    with _show_progress("exporting") as progress:
        convert.export_official(
            chosen.model, dit=chosen.dit, vae=chosen.vae, overwrite=chosen.overwrite, progress=progress
        )
    for path in files:
        print(f"wrote {path} ({path.stat().st_size / 1e6:,.1f} MB)")


def _options(name: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """key=value arguments, and JSON objects among them."""
    options: dict[str, Any] = {}
    for text in getattr(chosen, name.strip("-").replace("-", "_")):
        if text.lstrip().startswith("{"):
            options |= _json(name, text)
            continue
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise LavinditError(f"{name} takes key=value or a JSON object, got {text!r}")
        options[key] = _json(name, value)
    return options


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise LavinditError(f"{name}: {text!r} is no number, list or JSON object: {error}") from error


def _show_progress(verb: str) -> AbstractContextManager[convert.Progress]:
    def say(done: int, total: int) -> str:
        return f"{verb}: {done / 1e9:.1f} of {total / 1e9:.1f} GB"

    return show_progress(verb, say, DownloadColumn())
