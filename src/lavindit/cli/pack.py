"""`lavindit pack`."""

from pathlib import Path

from lavindit.cli.tools import Parser
from lavindit.models.pack import PACKED, pack_model


def run_pack(arguments: list[str]) -> None:
    """Write a model directory that is ready to be handed on."""
    parser = Parser("lavindit pack", description="Round a model's weights, record their hashes, add a model card.")
    parser.add_argument("--model", required=True, help="run folder, model directory or released model")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="model directory to write")
    parser.add_argument(
        "--dtype", choices=PACKED, default="float16", help="type of the weights in the files (default float16)"
    )
    parser.add_argument(
        "--card", type=Path, metavar="FILE", help="Markdown file for MODEL_CARD.md (default: made here)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a model directory that exists")
    chosen = parser.parse_args(arguments)
    out = pack_model(chosen.model, chosen.out, chosen.dtype, chosen.card, chosen.overwrite)
    sizes = {path: path.stat().st_size for path in sorted(out.iterdir())}
    for path, size in sizes.items():
        print(f"wrote {path} ({size / 1e6:,.2f} MB)")
    print(f"{sum(sizes.values()) / 1e6:,.2f} MB in all")
