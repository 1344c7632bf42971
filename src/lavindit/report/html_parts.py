"""Parts of HTML pages that reports of all kinds are made of."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

SMALL_PX = 112  # a picture with a shorter side up to this is enlarged by a whole factor, unsmoothed
SHOWN_PX = 128  # to about this


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


def show_picture(run_dir: Path, path: str, label: str, alt: str, kind: str = "", size: int = SHOWN_PX) -> str:
    """A picture of the run with its label, inlined; a box that says so where it is missing.

    Args:
        run_dir: What the path is relative to.
        path: The picture.
        label: What stands above it.
        alt: What is read in its place.
        kind: A class of the style sheet.
        size: Side of a small picture, about; a large one is at most twice as high.
    """
    loaded = _load(run_dir, path)
    if loaded is None:
        image = f'<span class="missing" role="img" aria-label="{escape(alt)} (missing)">missing</span>'
    else:
        content, width, height = loaded
        short = min(width, height)
        factor = max(1, round(size / short)) if short <= SMALL_PX else min(1.0, 2 * size / height)
        pixelated = ' class="pixelated"' if short <= SMALL_PX else ""
        sides = f'width="{max(1, round(width * factor))}" height="{max(1, round(height * factor))}"'
        image = f'<img{pixelated} src="{_inline(content)}" alt="{escape(alt)}" {sides}>'
    return f'<div class="picture {kind}">{escape(label)}{image}</div>'


def show_thumbnail(run_dir: Path, path: str, alt: str) -> str:
    """The middle of a picture in a small square, which of a clip is its middle frame; nothing where it is missing."""
    loaded = _load(run_dir, path)
    return "" if loaded is None else f'<img src="{_inline(loaded[0])}" alt="{escape(alt)}">'


def _inline(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


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
