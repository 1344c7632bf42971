"""Plots of the benchmarks as SVG: panels of lines, with one legend for all of them. No library is needed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float | None] | tuple[float, float | None, float | None]
"""x, y and, where it is known, the standard error of y; a y of None is left out."""
COLOURS = ("#2166ac", "#b2182b", "#1b7837", "#e08214", "#762a83", "#80b1d3", "#999999", "#000000")
WIDTH, HEIGHT = 280, 190  # of a panel's axes
LEFT, TOP, RIGHT, BOTTOM, LEGEND = 62, 44, 18, 46, 230  # around them


@dataclass(frozen=True)
class Panel:
    """Lines over one pair of axes.

    Attributes:
        title: Above it.
        lines: Points by the line's name; lines of one name have one colour in all panels.
        x_name: What x is.
        note: Below the title.
        log_x: Whether equal distances are equal ratios; x must be above 0.
        log_y: Likewise of y.
    """

    title: str
    lines: Mapping[str, Sequence[Point]]
    x_name: str = ""
    note: str = ""
    log_x: bool = False
    log_y: bool = False


def draw(panels: Sequence[Panel], columns: int = 1, colours: Mapping[str, str] | None = None) -> str:
    """The SVG of panels, row by row, with a legend to the right of them.

    Args:
        panels: At least one.
        columns: Panels a row.
        colours: Of lines by name; None: one after another.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    chosen = colours or {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    columns = min(columns, len(panels))
    across, down = LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM
    parts = []
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        parts.append(f'<g transform="translate({column * across + LEFT},{row * down + TOP})">')
        parts += [*_panel(panel, chosen), "</g>"]
    for place, name in enumerate(names):
        x, y = columns * across + 8, TOP + 14 + 22 * place
        parts.append(f'<path d="M{x} {y - 4}h16" stroke="{chosen[name]}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 22}" y="{y}" fill="{chosen[name]}">{escape(name)}</text>')
    wide, high = columns * across + LEGEND, max(-(-len(panels) // columns) * down, TOP + 22 * len(names))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" '
        f'font-size="12"><rect width="{wide}" height="{high}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def note_of(row: Mapping[str, str]) -> str:
    """What a plot says of a figure of that metric, unit and direction."""
    unit = "" if row["unit"] == "1" else f", {row['unit']}"
    return f"{row['metric']}{unit}: {'more' if row['direction'] == 'max' else 'less'} is better"


def _panel(panel: Panel, colours: Mapping[str, str]) -> list[str]:
    known = {name: _known(line) for name, line in panel.lines.items()}
    points = [point for line in known.values() for point in line]
    parts = [f'<text y="-24" font-weight="bold">{escape(panel.title)}</text>']
    parts += [f'<text y="-9" fill="#666">{escape(panel.note)}</text>'] if panel.note else []
    if not points:
        return [*parts, '<text y="20">not measured</text>']
    across = _Axis([x for x, _, _ in points], WIDTH, panel.log_x)
    down = _Axis([y + side * error for _, y, error in points for side in (-1, 1)], -HEIGHT, panel.log_y)
    for tick in down.ticks():
        y = HEIGHT + down.place(tick)
        parts.append(f'<path d="M0 {y:.1f}H{WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in across.stops([x for x, _, _ in points]):
        parts.append(f'<text x="{across.place(tick):.1f}" y="{HEIGHT + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT + 34}" text-anchor="middle">{escape(panel.x_name)}</text>')
    for name, line in known.items():
        placed = [(across.place(x), HEIGHT + down.place(y)) for x, y, _ in line]
        parts.append(
            f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}" fill="none" '
            f'stroke="{colours[name]}" stroke-width="2"/>'
        )
        for (x, y), (_, value, error) in zip(placed, line, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colours[name]}"/>')
            if error:
                ends = [HEIGHT + down.place(value + side * error) for side in (-1, 1)]
                parts.append(f'<path d="M{x:.1f} {ends[0]:.1f}V{ends[1]:.1f}" stroke="{colours[name]}"/>')
    return parts


def _known(line: Sequence[Point]) -> list[tuple[float, float, float]]:
    """Points whose y is a number, in the order of x; an error that is none is 0."""
    found = []
    for x, y, *rest in line:
        error = rest[0] if rest else None
        if y is not None and math.isfinite(y):
            found.append((float(x), float(y), float(error) if error is not None and math.isfinite(error) else 0.0))
    return sorted(found)


class _Axis:
    """One axis.

    Args:
        values: What must fit on it.
        length: Pixels from its lowest value to its highest; negative where it grows against SVG's direction.
        log: Whether it is logarithmic.
    """

    def __init__(self, values: Sequence[float], length: float, log: bool) -> None:
        self.log = log and min(values) > 0
        low, high = min(values), max(values)
        margin = 0.0 if high > low else (abs(high) or 1.0) * 0.1
        if self.log:
            low, high = (low, high) if high > low else (low / 1.2, high * 1.2)
        else:
            low, high = low - margin, high + margin
        self.low, self.high, self.length = low, high, length

    def place(self, value: float) -> float:
        """Pixels from its beginning."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
        return self.length * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round numbers on it: about five."""
        if self.log and self.high / self.low >= 10:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(powers) < 3 else (1,)  # one power alone would tell nothing of the rest
            ticks = [step * 10.0**power for power in range(powers.start - 1, powers.stop) for step in steps]
            return [tick for tick in ticks if self.low <= tick <= self.high]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
        count = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(math.ceil(self.low / step - 1e-9), count + 1)]

    def stops(self, values: Sequence[float]) -> list[float]:
        """The values themselves where they are few, else round numbers."""
        few = sorted(set(values))
        return few if len(few) <= 8 else self.ticks()
