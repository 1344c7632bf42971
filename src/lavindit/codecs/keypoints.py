"""Keypoints as a skeleton: a disc in a colour of its own for each joint, joined by dark limbs.

Shape legend: M people, J joints, T frames, H W pixels, D discs = people x joints.
"""

import math
from collections.abc import Sequence

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from lavindit.codecs.base import Codec
from lavindit.codecs.colours import EXACT, nearest_colour, separated_colours, settle
from lavindit.codecs.figures import take_apart
from lavindit.errors import LavinditError

COCO_PARENTS = (-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14)
"""For each of COCO's 17 joints the next one towards the nose; -1 for the nose."""

LIMB = (64, 64, 64)
VISIBLE = 2.0
_FIRST_JOINT = 2  # label 0 is black, 1 a limb


class KeypointsCodec(Codec):
    """Joints (x, y, visibility) in pixels, centres of pixels at integers, to a stick figure on black.

    A joint is a disc of radius `max(2.5, longer side / 64)` px. Where discs overlap, a pixel belongs to the nearest
    joint, so that none is hidden behind another; joints in the very same place share their disc like a pie. Limbs are
    dark gray, under all discs; they lead from each joint to the nearest one on its way to the root that is drawn
    (failing that, to the first that is drawn), so that a figure hangs together.

    Reading takes the pixels of a joint's colour where they are densest, and their centroid. It then draws what it
    found, compares, and moves each joint by the difference of the centroids: so a joint whose disc is cut, by another
    or by the border, is not drawn to the side.

    Natives are [M, J, T, 3] as in `Scene.keypoints_px`. Joints of visibility 0 are not drawn and come back as zeros, in
    position too; hidden joints (1) are drawn like visible ones (2) and come back as 2. With `people` 1 all discs belong
    to one person. With more, people are told apart by their limbs (in skeletons whose parents come before their
    children, as COCO's do; otherwise by not touching). They come back from left to right in each frame, and are not
    followed over time. Joints of one kind that touch become one.

    Args:
        parents: For each joint the next one towards the root, -1 for a root; COCO's 17 by default.
        people: People that a picture can hold.
        generator: Draws the palette; seed 0 without one.
        margin: A colour counts up to this share of the palette's smallest distance away, in (0, 1].

    Raises:
        LavinditError: For arguments out of range, and in `encode` for more people, or other joints, than stated.
    """

    name = "keypoints"
    channels = 3
    pixelwise = False
    unit = "px"
    invalid = "black; joints of visibility 0 or without a finite place are not drawn, and decode to zeros"

    def __init__(
        self,
        parents: Sequence[int] = COCO_PARENTS,
        people: int = 1,
        generator: torch.Generator | None = None,
        margin: float = 0.5,
    ) -> None:
        joints = len(parents)
        if not (1 <= joints <= 128 and people >= 1 and 0 < margin <= 1 and all(-1 <= p < joints for p in parents)):
            raise LavinditError(
                "codec 'keypoints' needs 1 to 128 parents, each -1 or the number of a joint, people >= 1 and "
                f"0 < margin <= 1, got parents={list(parents)}, people={people}, margin={margin}"
            )
        self.parents, self.people, self.margin = tuple(parents), int(people), margin
        fixed = ((0, 0, 0), LIMB)
        colours = separated_colours(joints, generator, fixed)
        self.colours = torch.cat([torch.tensor(fixed) / 255, colours])
        self.distance = float(torch.cdist(colours, self.colours).add(10 * (torch.eye(joints + 2)[2:])).min())
        self.bounds = (0.0, math.inf)
        # For discs that do not touch and lie inside the picture.
        self.tolerance = self.tolerance_8bit = 0.5

    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Joints [M, J, T, 3], valid [1, T, H, W] -> picture [3, T, H, W], black where invalid."""
        if len(native) > self.people or native.shape[1] != len(self.parents):
            raise LavinditError(
                f"codec 'keypoints' holds {self.people} people of {len(self.parents)} joints, "
                f"got {len(native)} of {native.shape[1]}: set `people` and `parents`"
            )
        height, width = valid.shape[2:]
        frames = [self._draw(native[:, :, t].float(), height, width) for t in range(valid.shape[1])]
        labels = torch.where(valid[0], torch.stack(frames), 0)
        return self.colours.to(labels.device)[labels].permute(3, 0, 1, 2).contiguous()

    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> joints [M, J, T, 3]; all zero where not found. M is 1 at least."""
        return self.decode_scored(picture)[0]

    def decode_scored(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Joints as `decode` gives them, and how far each can be trusted.

        Returns:
            Joints [M, J, T, 3] and the share of each joint's disc that was seen, [M, J, T] in [0, 1]: a disc that
            another one cuts has less than a whole one.
        """
        margin = self.margin * self.distance
        labels, settled = settle(picture, self.colours, margin, strength=1)
        distance = nearest_colour(picture, self.colours)[1]
        labels = torch.where(settled, labels, 0).cpu()
        # A pixel of exactly the colour counts as two: no rim between two colours is that sure.
        weight = torch.where(distance <= EXACT, 2.0, (1 - distance / self.distance).clamp_min(0.1)).cpu()
        people, frames = self.people, picture.shape[1]
        joints, scores = (
            torch.zeros(people, len(self.parents), frames, 3),
            torch.zeros(people, len(self.parents), frames),
        )
        for t in range(frames):
            for person, mask in enumerate(self._people(labels[t])):
                joints[person, :, t], scores[person, :, t] = self._find(torch.where(mask, labels[t], 0), weight[t])
        seen = (scores > 0).any(2).any(1)
        seen[0] = True
        return joints[seen].to(picture.device), scores[seen].to(picture.device)

    def random_native(self, frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """One person [1, J, T, 3], all visible, each joint in a cell of a grid of its own."""
        count = len(self.parents)
        across = max(1, round((count * width / height) ** 0.5))
        down = -(-count // across)
        cell = torch.tensor([width / across, height / down])
        places = torch.stack([torch.arange(across * down) % across, torch.arange(across * down) // across], -1)
        places = places[torch.randperm(across * down, generator=generator)[:count], None]
        clear = _radius(height, width) + 1
        xy = places * cell + clear + torch.rand(count, frames, 2, generator=generator) * (cell - 2 * clear).clamp_min(0)
        return torch.cat([xy, torch.full_like(xy[..., :1], VISIBLE)], -1)[None]

    def _draw(self, people: Tensor, height: int, width: int) -> Tensor:
        """Labels [H, W] of one frame with people [M, J, 3]."""
        shown = (people[..., 2] > 0) & people.isfinite().all(-1)
        places = torch.where(shown[..., None], people[..., :2], 0.0)
        radius = _radius(height, width)
        labels = torch.zeros(height, width, dtype=torch.long, device=people.device)
        for m in range(len(people)):
            for limb in self._limbs(shown[m].tolist()):
                _draw_limb(labels, places[m, limb], radius / 3)
        owner = _owners(places.flatten(0, 1), shown.flatten(), radius, height, width)
        return torch.where(owner >= 0, owner % len(self.parents) + _FIRST_JOINT, labels)

    def _limbs(self, shown: Sequence[bool]) -> list[list[int]]:
        """Pairs of joints that are joined, given which are drawn."""
        ends = [(joint, self._joined_to(joint, shown)) for joint in range(len(shown)) if shown[joint]]
        return [[joint, end] for joint, end in ends if end is not None]

    def _joined_to(self, joint: int, shown: Sequence[bool]) -> int | None:
        """The joint that the limb of a drawn joint leads to; None for the first that is drawn."""
        root = shown.index(True)
        if joint == root:
            return None
        up, steps = self.parents[joint], 0
        while up >= 0 and not shown[up] and steps < len(shown):  # counted, in case the parents form a ring
            up, steps = self.parents[up], steps + 1
        return up if up >= 0 and shown[up] else root

    def _people(self, labels: Tensor) -> list[Tensor]:
        """Masks [H, W] of the figures in labels [H, W], from left to right."""
        if self.people == 1:
            return [torch.ones_like(labels, dtype=torch.bool)]
        masks = []
        if all(parent < joint for joint, parent in enumerate(self.parents)):
            masks = take_apart(labels, len(self.parents), _FIRST_JOINT, _radius(*labels.shape), self._joined_to)
        masks = masks or self._regions(labels)
        largest = sorted(masks, key=lambda mask: -int((labels[mask] >= _FIRST_JOINT).sum()))[: self.people]
        return sorted(largest, key=lambda mask: float(mask.nonzero()[:, 1].float().mean()))

    def _regions(self, labels: Tensor) -> list[Tensor]:
        """Masks [H, W] of the regions of labels [H, W] that do not touch, the largest `people` of them."""
        parts, count = ndimage.label((labels > 0).numpy(), structure=[[1] * 3] * 3)  # pyright: ignore[reportGeneralTypeIssues]
        parts = torch.from_numpy(parts).long()
        size = torch.bincount(parts.flatten(), minlength=count + 1)[1:]
        least = math.pi * _radius(*labels.shape) ** 2 / 2
        largest = [i for i in size.argsort(descending=True).tolist()[: self.people] if size[i] >= least]
        return [parts == i + 1 for i in largest]

    def _find(self, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Joints [J, 3] and their scores [J] of the one figure in labels [H, W]."""
        radius = _radius(*labels.shape)
        row, column = (torch.arange(n).float() for n in labels.shape)
        own = labels == torch.arange(len(self.parents))[:, None, None] + _FIRST_JOINT
        mass = own * weight
        window = 2 * math.ceil(radius) + 1
        dense = mass
        for kernel in ((window, 1), (1, window)):
            dense = functional.avg_pool2d(dense, kernel, 1, (kernel[0] // 2, kernel[1] // 2))
        dense = dense.flatten(1).argmax(1)
        top, left = dense // labels.shape[1], dense % labels.shape[1]
        near_row, near_column = (row - top[:, None]).abs() <= 2 * radius, (column - left[:, None]).abs() <= 2 * radius
        close = near_row[:, :, None] & near_column[:, None]
        mass = mass * close
        total = mass.sum((1, 2))
        area = math.pi * radius**2
        found = (total >= 0.12 * area) | (own & close & (weight > 1)).any(2).any(1)
        seen = torch.stack([mass.sum(1) @ column, mass.sum(2) @ row], -1) / total[:, None].clamp_min(1e-6)
        places = self._undo_cuts(seen, found, radius, *labels.shape)
        scores = torch.where(found, ((own & close).sum((1, 2)) / area).clamp(0.01, 1.0), 0.0)
        joints = torch.cat([places, torch.full_like(places[:, :1], VISIBLE)], 1)
        return torch.where(found[:, None], joints, 0.0), scores

    def _undo_cuts(self, seen: Tensor, found: Tensor, radius: float, height: int, width: int) -> Tensor:
        """Where joints [J, 2] must lie for their discs, cut by each other, to have the centroids `seen` [J, 2]."""
        places = seen.clone()
        for _ in range(10):
            owner = _owners(places, found, radius, height, width)
            y, x = (owner >= 0).nonzero().float().T
            drawn = torch.stack([x, y, torch.ones_like(x)], -1)
            sums = torch.zeros(len(seen), 3).index_add_(0, owner[owner >= 0], drawn)
            error = torch.where(sums[:, 2:] > 0, seen - sums[:, :2] / sums[:, 2:].clamp_min(1), 0.0)
            places = seen + (places + 0.7 * error - seen).clamp(-radius, radius)
        return places


def _radius(height: int, width: int) -> float:
    """Radius of a joint's disc in px."""
    return max(2.5, max(height, width) / 64)


def _owners(places: Tensor, shown: Tensor, radius: float, height: int, width: int) -> Tensor:
    """Which disc each pixel belongs to.

    Args:
        places: Centres (x, y) in px [D, 2].
        shown: bool [D].
        radius: Of all discs, in px.
        height: Of the picture.
        width: Of the picture.

    Returns:
        int64 [H, W], -1 outside all discs.
    """
    count, reach = len(places), math.ceil(radius) + 1
    # Only the pixels around each centre: [D, (2 reach + 1)^2].
    step = torch.arange(-reach, reach + 1, device=places.device).float()
    down, across = (offset.flatten() for offset in torch.meshgrid(step, step, indexing="ij"))
    x, y = places[:, :1].round() + across, places[:, 1:].round() + down
    across, down = x - places[:, :1], y - places[:, 1:]
    inside = (across.square() + down.square() <= radius**2) & shown[:, None]
    inside &= (x >= 0) & (y >= 0) & (x < width) & (y < height)
    # Each disc pulls from a point a little off its centre, another way for each: coincident discs split like a pie.
    # By the golden angle, so that any few of them lie well around.
    angle = torch.arange(count, device=places.device)[:, None] * (math.pi * (3 - 5**0.5))
    pull = ((across - 0.25 * angle.cos()).square() + (down - 0.25 * angle.sin()).square())[inside]
    pixel, disc = (y * width + x)[inside].long(), inside.nonzero()[:, 0]
    least = torch.full((height * width,), torch.inf, device=places.device).scatter_reduce_(0, pixel, pull, "amin")
    wins = pull == least[pixel]
    owner = torch.full((height * width,), count, device=places.device)
    owner.scatter_reduce_(0, pixel[wins], disc[wins], "amin")
    return torch.where(owner == count, -1, owner).view(height, width)


def _draw_limb(labels: Tensor, ends: Tensor, half_width: float) -> None:
    """Set the labels [H, W] within `half_width` px of the segment [2, 2] to that of a limb."""
    height, width = labels.shape
    size = torch.tensor([width, height])
    low = (ends.amin(0).cpu() - half_width).floor().clamp_min(0).minimum(size).long().tolist()
    high = (ends.amax(0).cpu() + half_width + 1).ceil().clamp_min(0).minimum(size).long().tolist()
    window = labels[low[1] : high[1], low[0] : high[0]]
    x = torch.arange(low[0], high[0], device=labels.device) - ends[0, 0]
    y = (torch.arange(low[1], high[1], device=labels.device) - ends[0, 1])[:, None]
    along = ends[1] - ends[0]
    share = ((x * along[0] + y * along[1]) / along.square().sum().clamp_min(1e-6)).clamp(0.0, 1.0)
    window[(x - share * along[0]).square() + (y - share * along[1]).square() <= half_width**2] = 1
