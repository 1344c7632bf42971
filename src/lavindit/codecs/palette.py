"""Ids as colours that lie as far apart as they can: instances, and panoptic segments.

Shape legend: L labels = the colours of a palette, black first.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lavindit.codecs.base import Codec
from lavindit.codecs.colours import separated_colours, settle, spacing
from lavindit.errors import LavinditError


class _Coloured(Codec):
    """What instances and panoptic segments share: a palette, painting with it, and reading it.

    Attributes:
        colours: The palette [L, 3], black first.
        distance: Smallest distance between two of its colours (the RGB cube has sides of 1).
    """

    unit = "id"
    invalid = "black, as background; so are pixels that are not finite, or have no id"
    tolerance = 0.5  # ids are whole numbers: they are right or wrong
    tolerance_8bit = 0.5

    def _prepare(self, colours: Tensor, margin: float, cleanup: int, void: bool) -> None:
        if not 0 < margin <= 1 or cleanup < 0:
            raise LavinditError(
                f"codec {self.name!r} needs 0 < margin <= 1 and cleanup >= 0, got margin={margin}, cleanup={cleanup}"
            )
        self.colours = torch.cat([torch.zeros(1, 3), colours])
        self.distance = spacing(self.colours)
        self.margin, self.cleanup, self.void = margin, cleanup, void

    def _paint(self, labels: Tensor) -> Tensor:
        """int64 labels [T, H, W] -> picture [3, T, H, W]."""
        return self.colours.to(labels.device)[labels].permute(3, 0, 1, 2).contiguous()

    def _read(self, picture: Tensor, table: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> row of the table [L, N] for each pixel, float32 [N, T, H, W]; NaN stays NaN."""
        labels, settled = settle(picture, self.colours, self.margin * self.distance, self.cleanup)
        if self.void:
            labels = torch.where(settled, labels, 0)
        native = table.to(labels.device)[labels].permute(3, 0, 1, 2).float()
        return torch.where(picture.isnan().any(0, keepdim=True), torch.nan, native)

    def _random_rows(self, table: Tensor, frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Rows of the table [L, N] in blocks of 4 px -> [N, T, H, W]."""
        blocks = torch.randint(len(table), (frames, -(-height // 4), -(-width // 4)), generator=generator)
        labels = blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width]
        return table[labels].permute(3, 0, 1, 2).float()


class PaletteCodec(_Coloured):
    """Instance ids to colours: 0 (background, void) is black, id i the i-th colour of the palette.

    Ids from 1 to `colours` keep their colour and come back as they were. Where an id is larger, the ids of the picture
    or clip are first ranked in ascending order, which closes gaps; then the ranks come back.

    The colours lie at least `distance` apart, black included: 1 for 7 of them, 0.55 for 16, 0.5 for 26, 0.38 for 34,
    0.33 for 63. Noise below half of it does no harm in the middle of an area; what blur costs at boundaries grows with
    the number of colours, so ask for no more than an episode needs.

    Args:
        colours: Instances that a picture or clip can hold.
        generator: Draws the palette; seed 0 without one.
        margin: A colour counts up to this share of `distance` away, in (0, 1]; above 1/2 it may not be the only one.
        cleanup: Strength of the boundary clean-up in pixels, see `settle`; 0 for none.
        void: Make pixels that clean-up leaves unsettled background, instead of taking the nearest colour.

    Raises:
        LavinditError: For arguments out of range, and in `encode` for more instances than colours.
    """

    name = "palette"
    channels = 1

    def __init__(
        self,
        colours: int = 16,
        generator: torch.Generator | None = None,
        margin: float = 0.5,
        cleanup: int = 2,
        void: bool = False,
    ) -> None:
        if not 1 <= colours <= 4096:
            raise LavinditError(f"codec 'palette' needs 1 to 4096 colours, got {colours}")
        self.count = int(colours)
        self.bounds = (0.0, float(colours))
        self._prepare(separated_colours(self.count, generator), margin, cleanup, void)

    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Ids [1, T, H, W], any dtype, valid [1, T, H, W] -> picture [3, T, H, W]; negative ids are background."""
        return self._paint(_ranked(_whole(native, valid)[0], self.count, "instances", "colours"))

    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> ids [1, T, H, W], float32; NaN where the picture is."""
        return self._read(picture, torch.arange(self.count + 1)[:, None])

    def random_native(self, frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Blocks of random ids [1, T, H, W]."""
        return self._random_rows(torch.arange(self.count + 1)[:, None], frames, height, width, generator)


class PanopticCodec(_Coloured):
    """Panoptic segments to colours: one for each stuff class, a family of similar ones for each thing class.

    `table` [L, 2] says which class and instance each colour stands for: row 0 is void (0, 0), a stuff class has
    instance 0, a thing class instances 1 to `instances`. Instance numbers of a class are kept up to `instances`; where
    one is larger, those of its class are ranked in ascending order. A thing pixel without a number is void.

    Classes cost colours: all 133 of COCO with 14 instances each take 1,174, 0.1 apart, which a PNG keeps and noise of
    0.03 does not. So name the classes of the episode, not of the data set.

    Args:
        stuff: Ids of the stuff classes, above 0.
        things: Ids of the thing classes, above 0.
        instances: Instances of one thing class that a picture or clip can hold.
        generator: Draws the palette; seed 0 without one.
        margin: As in `PaletteCodec`.
        cleanup: As in `PaletteCodec`.
        void: As in `PaletteCodec`.

    Raises:
        LavinditError: For arguments out of range, and in `encode` for an unknown class or too many instances of one.
    """

    name = "panoptic"
    channels = 2

    def __init__(
        self,
        stuff: Sequence[int] = (),
        things: Sequence[int] = (1,),
        instances: int = 8,
        generator: torch.Generator | None = None,
        margin: float = 0.5,
        cleanup: int = 2,
        void: bool = False,
    ) -> None:
        classes, count = [*stuff, *things], len(stuff) + len(things) * instances
        if len(set(classes)) < len(classes) or min(classes, default=0) < 1 or instances < 1 or count > 4096:
            raise LavinditError(
                "codec 'panoptic' needs different class ids above 0, instances >= 1 and at most 4096 colours, "
                f"got stuff={list(stuff)}, things={list(things)}, instances={instances}"
            )
        self.stuff, self.things, self.instances = tuple(stuff), tuple(things), int(instances)
        self.bounds = (0.0, float(max(*classes, instances)))
        generator = generator or torch.Generator().manual_seed(0)
        shuffled = [classes[i] for i in torch.randperm(len(classes), generator=generator)]
        families = [(c, [0] if c in self.stuff else list(range(1, self.instances + 1))) for c in shuffled]
        self.table = torch.tensor([(0, 0), *((c, i) for c, numbers in families for i in numbers)])
        colours = separated_colours(count, generator)
        self._prepare(_grouped(colours, [len(numbers) for _, numbers in families]), margin, cleanup, void)

    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Class and instance [2, T, H, W], any dtype, valid [1, T, H, W] -> picture [3, T, H, W]."""
        class_ids, instance_ids = _whole(native, valid)
        labels = torch.zeros_like(class_ids)
        for c in class_ids.unique().tolist():
            if c != 0 and c not in self.stuff and c not in self.things:
                raise LavinditError(f"codec 'panoptic' has no colour for class {c}: name it in `stuff` or `things`")
            here = class_ids == c
            first = int((self.table[:, 0] == c).nonzero()[0])
            if c in self.things:
                numbers = torch.where(here, instance_ids, 0)
                numbers = _ranked(numbers, self.instances, f"instances of class {c}", "instances")
                labels = torch.where(here & (numbers > 0), first + numbers - 1, labels)
            else:
                labels = torch.where(here, first, labels)
        return self._paint(labels)

    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> class and instance [2, T, H, W], float32; NaN where the picture is."""
        return self._read(picture, self.table)

    def random_native(self, frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Blocks of random segments [2, T, H, W]."""
        return self._random_rows(self.table, frames, height, width, generator)


def _whole(native: Tensor, valid: Tensor) -> Tensor:
    """Ids as int64, 0 where invalid, not finite or negative."""
    known = torch.where(valid & native.isfinite(), native, 0)
    return known.double().round().clamp(0, 2**53).long()


def _ranked(ids: Tensor, count: int, what: str, option: str) -> Tensor:
    """Ids that fit into `count` as they are; otherwise their ranks from 1, 0 staying 0."""
    if int(ids.max()) <= count:
        return ids
    present = ids[ids > 0].unique()
    if len(present) > count:
        raise LavinditError(f"{len(present)} {what}, but there are {count} colours for them: raise `{option}`")
    return torch.where(ids > 0, torch.searchsorted(present, ids) + 1, 0)


def _grouped(colours: Tensor, sizes: Sequence[int]) -> Tensor:
    """Reorder colours [N, 3] so that consecutive runs of the given sizes are near each other, by halving the cube."""
    if len(sizes) <= 1:
        return colours
    half = len(sizes) // 2
    cut = sum(sizes[:half])
    widest = int((colours.amax(0) - colours.amin(0)).argmax())
    colours = colours[colours[:, widest].argsort(stable=True)]
    return torch.cat([_grouped(colours[:cut], sizes[:half]), _grouped(colours[cut:], sizes[half:])])
