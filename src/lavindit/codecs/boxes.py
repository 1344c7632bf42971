"""Boxes as filled rectangles with outlines, each in a colour of its own, read back below the pixel.

Shape legend: M boxes, T frames, H W pixels, R rows that cross an edge.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lavindit.codecs.base import Codec
from lavindit.codecs.colours import separated_colours, settle, spacing
from lavindit.errors import LavinditError


class BoxesCodec(Codec):
    """Boxes (x0, y0, x1, y1) in pixels, edges of pixels at integers (as in COCO), to coloured rectangles on black.

    Smaller boxes lie on larger ones. Every outline is drawn over every fill, `line_px` wide inwards; where outlines
    share pixels they take turns in dashes, so that each can be seen even if two boxes share an edge. Edges are
    anti-aliased: the share of an edge pixel that a box covers is the place of its edge, to a fraction of a pixel.

    Natives are [M, T, 4], M at most `boxes`; NaN, or an empty box, where a box is absent from a frame. Box m has the
    m-th colour, and colours come back in order: if a box cannot be read (it is narrower than 3 px, or covered by
    another's outline) the rows after it move up. Boxes are cut to the picture.

    Args:
        boxes: Boxes that a picture can hold. One box is white on black: single-object detection.
        generator: Draws the palette; seed 0 without one.
        margin: A colour counts up to this share of the palette's smallest distance away, in (0, 1].
        cleanup: Strength of the clean-up of boundaries in pixels, at least 1; see `settle`. Boxes of at most this many
            pixels are lost.

    Raises:
        LavinditError: For arguments out of range, and in `encode` for more boxes than colours.
    """

    name = "boxes"
    channels = 4
    pixelwise = False
    unit = "px"
    invalid = "black; boxes that are not finite or empty are not drawn, and decode to NaN"

    def __init__(
        self, boxes: int = 1, generator: torch.Generator | None = None, margin: float = 0.5, cleanup: int = 2
    ) -> None:
        if not (1 <= boxes <= 256 and 0 < margin <= 1 and cleanup >= 1):
            raise LavinditError(
                "codec 'boxes' needs 1 to 256 boxes, 0 < margin <= 1 and cleanup >= 1, "
                f"got boxes={boxes}, margin={margin}, cleanup={cleanup}"
            )
        self.count, self.cleanup = int(boxes), cleanup
        self.colours = torch.cat([torch.zeros(1, 3), separated_colours(self.count, generator)])
        self.distance = spacing(self.colours)
        self.margin = margin
        self.bounds = (0.0, math.inf)
        # For edges of which 3 px or more are on view, 2 px clear of another box's edge.
        self.tolerance = 0.01
        self.tolerance_8bit = 0.05

    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Boxes [M, T, 4] in px, valid [1, T, H, W] -> picture [3, T, H, W], black where invalid."""
        if len(native) > self.count:
            raise LavinditError(
                f"{len(native)} boxes, but codec 'boxes' has {self.count} colours for them: raise its `boxes`"
            )
        height, width = valid.shape[2:]
        frames = [self._draw(native[:, t].float(), height, width) for t in range(valid.shape[1])]
        return torch.where(valid, torch.stack(frames, 1), 0.0).contiguous()

    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> boxes [M, T, 4] in px, those found in any frame; NaN in frames without them."""
        return self.decode_scored(picture)[0]

    def decode_scored(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes as `decode` gives them, and how far each can be trusted.

        Returns:
            Boxes [M, T, 4] in px, and the share of each box's border that has its colour, [M, T] in [0, 1].
        """
        picture = picture.clamp(0.0, 1.0).float().nan_to_num()
        margin = self.margin * self.distance
        labels, settled = settle(picture, self.colours, margin, self.cleanup, drawn=False)
        frames = picture.shape[1]
        boxes, scores = torch.full((self.count, frames, 4), torch.nan), torch.zeros(self.count, frames)
        for t in range(frames):
            for label in labels[t][settled[t]].unique().tolist():
                if label > 0:
                    mask = _widened(settled[t] & (labels[t] == label)) & (labels[t] == label)
                    found = _read_box(picture[:, t], mask, self.colours[label].to(picture))
                    boxes[label - 1, t], scores[label - 1, t] = torch.tensor(found.xyxy), found.score
        seen = (scores > 0).any(1)
        return boxes[seen].to(picture.device), scores[seen].to(picture.device)

    def random_native(self, frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """One box [1, T, 4], 6 px wide and high at least and a pixel clear of the border."""
        size = torch.tensor([width, height], dtype=torch.float32)
        extent = 6 + (size - 8).clamp_min(0) * torch.rand(1, frames, 2, generator=generator)
        corner = 1 + (size - 2 - extent).clamp_min(0) * torch.rand(1, frames, 2, generator=generator)
        return torch.cat([corner, corner + extent], -1)

    def _draw(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """One frame [3, H, W] with boxes [M, 4]."""
        sides = boxes[:, 2:] - boxes[:, :2]
        boxes = torch.where((boxes.isfinite().all(1) & (sides > 0).all(1))[:, None], boxes, 0.0)
        boxes = boxes.clamp_min(0).minimum(boxes.new_tensor([width, height, width, height]))
        line_px = max(3, round(0.012 * max(height, width)))
        outer = _coverage(boxes, height, width)
        # The inner edge of an outline lies between pixels, so that fill and outline meet without a seam.
        inner = _coverage(torch.cat([boxes[:, :2].ceil() + line_px, boxes[:, 2:].floor() - line_px], 1), height, width)
        line = outer * (1 - inner)
        drawn = line > 0
        row, column = (torch.arange(n, device=boxes.device) for n in (height, width))
        turn = (row[:, None] + column) // (3 * line_px)
        line = line * (turn % drawn.sum(0).clamp_min(1) == drawn.cumsum(0) - 1)
        canvas = boxes.new_zeros(3, height, width)
        colours = self.colours[1:].to(boxes.device)[:, :, None, None]
        order = outer.sum((1, 2)).argsort(descending=True, stable=True).tolist()
        for layer in (inner, line):
            for m in order:
                canvas = torch.lerp(canvas, colours[m].expand_as(canvas), layer[m])
        return canvas


class _Box(NamedTuple):
    """A box that was read: its edges in px, and the share of its border that was seen."""

    xyxy: tuple[float, float, float, float]
    score: float


def _coverage(boxes: Tensor, height: int, width: int) -> Tensor:
    """Share of each pixel that each box [M, 4] covers -> [M, H, W]."""
    across, down = (torch.arange(n, device=boxes.device, dtype=boxes.dtype) for n in (width, height))
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    over_x = (torch.minimum(across + 1, x1) - torch.maximum(across, x0)).clamp(0, 1)
    over_y = (torch.minimum(down + 1, y1) - torch.maximum(down, y0)).clamp(0, 1)
    return over_y[:, :, None] * over_x[:, None]


def _widened(mask: Tensor) -> Tensor:
    """Mask [H, W] and a pixel around: an edge pixel that is mostly the box's, though not surely."""
    return functional.max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0


def _read_box(frame: Tensor, mask: Tensor, colour: Tensor) -> _Box:
    """The box whose colour [3] the pixels in mask [H, W] of the frame [3, H, W] have."""
    x0, x1 = _extent(mask.sum(0))
    y0, y1 = _extent(mask.sum(1))
    height, width = mask.shape
    turned, turned_mask = frame.transpose(1, 2), mask.T
    left = _edge(frame, mask, colour, x0, y0, y1)
    top = _edge(turned, turned_mask, colour, y0, x0, x1)
    right = width - _edge(frame.flip(2), mask.flip(1), colour, width - x1, y0, y1)
    bottom = height - _edge(turned.flip(2), turned_mask.flip(1), colour, height - y1, x0, x1)
    sides = (mask[y0:y1, x0], mask[y0:y1, x1 - 1], mask[y0, x0:x1], mask[y1 - 1, x0:x1])
    score = float(torch.cat(sides).float().mean())
    return _Box((left, top, right, bottom), score)


def _extent(counts: Tensor) -> tuple[int, int]:
    """First index, and one past the last, at which a good many of the pixels of a mask lie; counts [n]."""
    full = (counts >= (0.1 * counts.max()).clamp_min(1)).nonzero()
    return int(full[0]), int(full[-1]) + 1


def _edge(frame: Tensor, mask: Tensor, colour: Tensor, at: int, first: int, last: int) -> float:
    """Where the left edge of a box lies, in px, from the mixture of colours across it.

    In each row a pixel is a mixture of the box's colour and of the one 2 px outside; the shares of the box in the three
    pixels around the edge add up to how far it reaches. Blur moves shares from one pixel to the next, not their sum.

    Args:
        frame: [3, H, W].
        mask: bool [H, W], the box.
        colour: [3], the box's.
        at: Its first column.
        first: Its first row.
        last: One past its last row.
    """
    inside = min(at + 1, mask.shape[1] - 1)
    rows = mask[first:last, inside].nonzero()[:, 0] + first
    if len(rows) == 0:
        return float(at)
    # At the border of the picture there is nothing to compare with; there, black.
    behind = frame[:, rows, at - 2] if at >= 2 else torch.zeros_like(frame[:, rows, 0])
    start = at - 1 if at >= 2 else 0
    reach = colour[:, None] - behind  # [3, R]
    strip = frame[:, rows, start : inside + 1] - behind[..., None]  # [3, R, up to 3]
    share = torch.einsum("crs,cr->rs", strip, reach) / reach.square().sum(0)[:, None].clamp_min(1e-3)
    return inside + 1 - float(share.clamp(0.0, 1.0).sum(1).median())
