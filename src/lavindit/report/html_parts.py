"""Parts of HTML pages that reports of all kinds are made of."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

SMALL_PX = 112  # a picture with a shorter side up to this is enlarged by a whole factor, unsmoothed
LARGE_PX = 256  # and a larger one is shown at most this high


def make_table(header: Sequence[str], rows: Sequence[str]) -> str:
    """A table that scrolls by itself where the window is too narrow for it."""
    first, *others = (escape(name) for name in header)
    cells = f'<th scope="col" class="left">{first}</th>' + "".join(f'<th scope="col">{name}</th>' for name in others)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="Table"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def make_badge(text: str, kind: str) -> str:
    """A few words in a coloured pill."""
    return f'<span class="badge {kind}">{escape(text)}</span>'


def show_picture(run_dir: Path, path: str, label: str, alt: str, kind: str = "") -> str:
    """A picture of the run with its label, inlined; a box that says so where it is missing."""
    loaded = _load(run_dir, path)
    if loaded is None:
        image = f'<span class="missing" role="img" aria-label="{escape(alt)} (missing)">missing</span>'
    else:
        content, width, height = loaded
        short = min(width, height)
        factor = round(128 / short) if short <= SMALL_PX else min(1.0, LARGE_PX / height)
        pixelated = ' class="pixelated"' if short <= SMALL_PX else ""
        image = (
            f'<img{pixelated} src="data:image/png;base64,{base64.b64encode(content).decode()}" alt="{escape(alt)}" '
            f'width="{max(1, round(width * factor))}" height="{max(1, round(height * factor))}">'
        )
    return f'<div class="picture {kind}">{escape(label)}{image}</div>'


def _load(run_dir: Path, path: str) -> tuple[bytes, int, int] | None:
    """Content and size of a picture of the run; None if it is missing, broken or outside the run folder."""
    root = run_dir.resolve()
    try:
        file = (root / path).resolve()
        if not file.is_relative_to(root):
            return None
        content = file.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            return content, image.width, image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
