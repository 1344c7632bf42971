"""Colours that lie as far apart as they can, and how drawn ones are told from a picture again.

Shape legend: L labels = the colours of a palette, black first; G candidate colours; P pixels in question.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

BLACK = ((0, 0, 0),)
# A pixel this near to a colour was drawn in it: three channels rounded to 8 bits, and one level more.
EXACT = 3**0.5 * 1.5 / 255
_FAR = float(3 * 256**2)
_OFFSETS = torch.tensor([(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)])


@lru_cache(maxsize=32)
def _codebook(count: int, fixed: tuple[tuple[int, int, int], ...]) -> Tensor:
    """Levels 0-255 [count, 3] whose smallest distance to each other and to the `fixed` ones is large.

    The best of three: colours of a fine grid, of a cubic and of a face-centred lattice, each picked farthest first (at
    worst half of the optimum: Gonzalez, 1985) and then moved. All numbers are whole: every machine gets the same.
    """
    kept = torch.tensor(fixed).float()
    fine = _grid(18)
    lattices = [next(lattice for n in range(2, 64) if len(lattice := _grid(n, face)) > count) for face in (False, True)]
    found = []
    for grid in (fine if count < 256 else lattices[0], *lattices):
        gap, chosen = torch.stack([_squared(grid, colour) for colour in kept]).amin(0), []
        for _ in range(count):
            chosen.append(int(gap.argmax()))
            gap = torch.minimum(gap, _squared(grid, grid[chosen[-1]]))
        found.append(_moved(grid[chosen], kept, fine) if count <= 128 else grid[chosen])
    return max(found, key=lambda colours: spacing(torch.cat([kept[:1], colours])))


def _grid(levels: int, face_centred: bool = False) -> Tensor:
    """A grid [G, 3] of so many levels an axis, from 0 to 255; face-centred: every other point of it."""
    axis = torch.arange(levels)
    points = torch.cartesian_prod(axis, axis, axis)
    if face_centred:
        points = points[points.sum(1) % 2 == 0]
    return (points * 255 / (levels - 1)).round()


def _moved(colours: Tensor, kept: Tensor, grid: Tensor) -> Tensor:
    """Move each of the colours [N, 3] in turn to the point of the grid [G, 3] farthest from all others, if it gains.

    Each move raises the sorted list of distances to the nearest other, so this ends.
    """
    colours = colours.clone()
    near = torch.stack([_squared(grid, colour) for colour in [*kept, *colours]])
    gained = True
    while gained:
        gained = False
        for i in range(len(colours)):
            others = torch.cat([kept, colours[:i], colours[i + 1 :]])
            near[len(kept) + i] = _FAR
            gap = near.amin(0)
            best = int(gap.argmax())
            if gap[best] > _squared(others, colours[i]).min():
                colours[i], gained = grid[best], True
            near[len(kept) + i] = _squared(grid, colours[i])
    return colours


def _squared(points: Tensor, colour: Tensor) -> Tensor:
    """Squared distance of the points [G, 3] to a colour [3] -> [G]; exact for whole levels."""
    return (points - colour).square().sum(1)


def _farthest_first(colours: Tensor, fixed: Tensor, first: int) -> Tensor:
    """The colours [N, 3] in an order in which each is the farthest from `fixed` and from those before it."""
    gap, order = torch.stack([_squared(colours, colour) for colour in fixed]).amin(0), [first]
    for _ in range(len(colours) - 1):
        gap = torch.minimum(gap, _squared(colours, colours[order[-1]]))
        gap[order[-1]] = -1.0
        order.append(int(gap.argmax()))
    return colours[order]


def separated_colours(
    count: int, generator: torch.Generator | None = None, fixed: tuple[tuple[int, int, int], ...] = BLACK
) -> Tensor:
    """Colours in [0, 1] [count, 3] that lie far from each other and from the `fixed` ones (grays, levels 0-255).

    They are whole 8-bit levels, so a PNG keeps them. The first n of them lie farther apart than all of them do. Which
    bright one comes first, and which axis of colour is which, is drawn from the generator (from seed 0 without one).
    """
    generator = generator or torch.Generator().manual_seed(0)
    levels = _codebook(count, fixed)[:, torch.randperm(3, generator=generator)]
    bright = _squared(levels, torch.zeros(3)).argsort(descending=True, stable=True)[: (count + 1) // 2]
    first = int(bright[torch.randint(len(bright), (1,), generator=generator)])
    return _farthest_first(levels, torch.tensor(fixed).float(), first) / 255


def spacing(colours: Tensor) -> float:
    """Smallest distance between two of the colours [L, 3]."""
    return float(functional.pdist(colours).min())


def nearest_colour(picture: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
    """Label of the nearest colour and the distance to it; a pixel that is NaN is infinitely far from label 0.

    Args:
        picture: [3, T, H, W].
        colours: [L, 3].

    Returns:
        int64 and float32, both [T, H, W].
    """
    pixels = picture.clamp(0.0, 1.0).float().permute(1, 2, 3, 0).reshape(-1, 3)
    broken = pixels.isnan().any(1)
    found = [
        torch.cdist(part, colours.to(part), compute_mode="donot_use_mm_for_euclid_dist").min(1)
        for part in pixels.nan_to_num().split(max(1, 2**22 // len(colours)))  # 16 MB at once
    ]
    distance = torch.where(broken, torch.inf, torch.cat([part.values for part in found]))
    labels = torch.where(broken, 0, torch.cat([part.indices for part in found]))
    return labels.view(picture.shape[1:]), distance.view(picture.shape[1:])


def settle(picture: Tensor, colours: Tensor, margin: float, strength: int, drawn: bool = True) -> tuple[Tensor, Tensor]:
    """Label every pixel, and clean the boundaries up.

    Between two areas a blurred picture runs through all colours between theirs, some of which mean something else. So
    a label is trusted only where it is solid: in a square of `strength + 1` pixels a side that are all within `margin`
    of one colour, and up to `2 * strength` px around along pixels of that label. Any other pixel, over `2 * strength`
    px, takes the label of that trusted neighbour whose colour is the nearest to its own. With `strength` n, wrong rims
    of up to n px go away, and in a picture that was blurred also things that thin.

    Args:
        picture: [3, T, H, W].
        colours: [L, 3].
        margin: Largest distance at which a colour counts.
        strength: 0 for no clean-up.
        drawn: Trust pixels of exactly a palette's colour, however few, so that a drawn picture is read back as it was
            drawn, and give a label to the others. Otherwise only solid areas are settled.

    Returns:
        int64 labels and whether they were settled, both [T, H, W]; an unsettled pixel has the label of the nearest
        colour.
    """
    labels, distance = nearest_colour(picture, colours)
    sure = distance <= margin
    if strength == 0:
        return labels, sure
    kept = _solid(torch.where(sure, labels, -1), strength + 1, drawn)
    if drawn:
        kept |= distance <= EXACT
    colours = colours.to(picture.device)
    pixels = picture.clamp(0.0, 1.0).float().nan_to_num()
    for step in range(4 * strength if drawn else 2 * strength):
        spreading = step < 2 * strength
        at = ((sure & ~kept) if spreading else ~kept).nonzero()
        around = _neighbours(torch.where(kept, labels, -1), at)
        if spreading:
            reached = (around == labels[tuple(at.T)][:, None]).any(1)
        else:
            own = pixels[:, *at.T].T  # [P, 3]
            cost = (colours[around.clamp_min(0)] - own[:, None]).norm(dim=2)
            nearest = torch.where(around >= 0, cost, torch.inf).argmin(1, keepdim=True)
            reached = (around >= 0).any(1)
            labels[tuple(at[reached].T)] = around.gather(1, nearest)[reached, 0]
        kept[tuple(at[reached].T)] = True
    return labels, kept


def _solid(marks: Tensor, side: int, beyond: bool) -> Tensor:
    """Pixels of marks [T, H, W] inside a square of equal marks, `side` px wide; never where the mark is -1.

    With `beyond` as if the picture went on beyond its border, where an area may be cut to a strip.
    """
    levels, border = marks[:, None].float(), (side - 1,) * 4
    levels = functional.pad(levels, border, "replicate") if beyond else functional.pad(levels, border, value=-1.0)
    high, low = functional.max_pool2d(levels, side, 1), -functional.max_pool2d(-levels, side, 1)
    square = ((high == low) & (low >= 0)).float()
    return functional.max_pool2d(square, side, 1)[:, 0] > 0


def _neighbours(marks: Tensor, at: Tensor) -> Tensor:
    """Marks [T, H, W] around the pixels `at` [P, 3] -> [P, 8]; -1 outside the picture."""
    padded = functional.pad(marks, (1, 1, 1, 1), value=-1)
    frame, row, column = at[:, :1], at[:, 1:2], at[:, 2:]
    offsets = _OFFSETS.to(marks.device)
    return padded[frame, row + offsets[:, 0], column + offsets[:, 1]]
