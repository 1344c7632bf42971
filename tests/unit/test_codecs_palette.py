"""Instances and panoptic segments as colours."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur, resize

from lavindit.codecs import PaletteCodec, PanopticCodec
from lavindit.codecs.colours import separated_colours, settle, spacing
from lavindit.errors import LavinditError

SIZE = 64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def everywhere(ids: Tensor) -> Tensor:
    return torch.ones_like(ids[:1], dtype=torch.bool)


def discs(count: int, seed: int = 0, size: int = SIZE, frames: int = 1) -> Tensor:
    """Ids [1, T, H, W] of overlapping discs on background."""
    axis = torch.arange(size)
    ids = torch.zeros(1, frames, size, size)
    draws = torch.rand(count, 3, generator=seeded(seed))
    for i, (x, y, r) in enumerate(draws.tolist()):
        inside = (axis[:, None] - y * size) ** 2 + (axis - x * size) ** 2 < (size * (0.08 + 0.12 * r)) ** 2
        ids[:, :, inside] = i + 1
    return ids


def overlap(answer: Tensor, truth: Tensor) -> float:
    """Mean over the ids of the truth of the IoU with the same id."""
    ious = [
        float(((answer == i) & (truth == i)).sum() / ((answer == i) | (truth == i)).sum())
        for i in truth.unique().tolist()
        if i > 0
    ]
    return sum(ious) / len(ious)


@pytest.mark.parametrize(("count", "least"), [(1, 1.73), (3, 1.0), (7, 1.0), (13, 0.7), (26, 0.5), (63, 0.33)])
def test_colours_lie_far_apart(count: int, least: float) -> None:
    colours = separated_colours(count, seeded())
    assert colours.shape == (count, 3)
    assert spacing(torch.cat([torch.zeros(1, 3), colours])) >= least - 1e-2
    assert torch.equal((colours * 255).round() / 255, colours)


def test_a_palette_is_drawn_from_its_generator() -> None:
    first, again, other = (PaletteCodec(16, seeded(seed)).colours for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not first[0].any()


def test_few_instances_get_the_colours_that_lie_farthest_apart() -> None:
    for seed in range(5):
        colours = PaletteCodec(32, seeded(seed)).colours
        assert spacing(colours[:5]) > 1.5 * spacing(colours)


@pytest.mark.parametrize("size", [(64, 64), (37, 53), (1, 1), (2, 9)])
def test_ids_come_back_as_they_were(size: tuple[int, int]) -> None:
    codec = PaletteCodec(16, seeded())
    native = codec.random_native(3, *size, seeded())
    assert torch.equal(codec.decode(codec.encode(native, everywhere(native))), native)
    single_pixels = torch.randint(0, 17, (1, 2, *size), generator=seeded())
    assert torch.equal(codec.decode(codec.encode(single_pixels, everywhere(single_pixels))), single_pixels.float())


def test_a_permutation_of_ids_permutes_the_answer() -> None:
    codec, native = PaletteCodec(9, seeded()), discs(9)
    order = torch.cat([torch.zeros(1), torch.randperm(9, generator=seeded()) + 1.0])
    permuted = order[native.long()]
    assert torch.equal(codec.decode(codec.encode(permuted, everywhere(native))), permuted)


def test_gaps_are_closed_only_where_ids_do_not_fit() -> None:
    codec = PaletteCodec(4, seeded())
    fitting = torch.tensor([0, 2, 4, 4]).reshape(1, 1, 1, 4)
    assert codec.decode(codec.encode(fitting, everywhere(fitting))).flatten().tolist() == [0, 2, 4, 4]
    large = torch.tensor([0, 7, 900, 2**40]).reshape(1, 1, 1, 4)
    assert codec.decode(codec.encode(large, everywhere(large))).flatten().tolist() == [0, 1, 2, 3]
    assert codec.decode(codec.encode(-large, everywhere(large))).flatten().tolist() == [0, 0, 0, 0]


def test_gaps_are_closed_for_the_whole_clip() -> None:
    codec = PaletteCodec(2, seeded())
    clip = torch.tensor([[5, 9], [9, 0]]).reshape(1, 2, 1, 2)
    assert codec.decode(codec.encode(clip, everywhere(clip))).flatten().tolist() == [1, 2, 2, 0]


@pytest.mark.parametrize("ids", [[0], [3]])
def test_nothing_and_one_instance(ids: list[int]) -> None:
    codec = PaletteCodec(4, seeded())
    native = torch.full((1, 1, 8, 8), float(ids[0]))
    assert torch.equal(codec.decode(codec.encode(native, everywhere(native))), native)


def test_too_many_instances_are_told() -> None:
    native = torch.arange(6).reshape(1, 1, 2, 3)
    with pytest.raises(LavinditError, match="5 instances, but there are 4 colours for them: raise `colours`"):
        PaletteCodec(4).encode(native, everywhere(native))


def test_interpolated_rims_go_away() -> None:
    codec, native = PaletteCodec(16, seeded()), discs(16)
    large = resize(codec.encode(native, everywhere(native))[:, 0], [4 * SIZE, 4 * SIZE])[:, None]
    truth = native.repeat_interleave(4, 2).repeat_interleave(4, 3)
    raw = PaletteCodec(16, seeded(), cleanup=0).decode(large)
    clean = codec.decode(large)
    assert overlap(clean, truth) > overlap(raw, truth)
    assert overlap(clean, truth) > 0.9
    for i in range(1, 17):  # an id shows up only near where it is
        near = torch.nn.functional.max_pool2d((truth == i).float(), 9, 1, 4) > 0
        assert not ((clean == i) & ~near).any()


@pytest.mark.parametrize("colours", [8, 16])
def test_blur_and_noise(colours: int) -> None:
    """Blurred by 1 px and with noise of 0.05, discs of 20 to 50 px keep an IoU above 0.9."""
    codec, truth = PaletteCodec(colours, seeded()), discs(8, size=128)
    picture = gaussian_blur(codec.encode(truth, everywhere(truth))[:, 0], [7, 7], [1.0, 1.0])[:, None]
    picture = picture + 0.05 * torch.randn(picture.shape, generator=seeded())
    assert overlap(codec.decode(picture), truth) > 0.9


def test_touching_instances_stay_apart() -> None:
    codec = PaletteCodec(16, seeded())
    halves = (torch.arange(32) >= 16).long().expand(1, 1, 32, 32) + 1
    picture = codec.encode(halves, everywhere(halves))
    assert torch.equal(codec.decode(picture), halves.float())
    blurred = gaussian_blur(picture[:, 0], [7, 7], [1.0, 1.0])[:, None]
    assert torch.equal(codec.decode(blurred), halves.float())


def test_what_nothing_near_explains_is_nearest_or_void() -> None:
    gray = torch.full((3, 1, 8, 8), 0.5)
    for void in (False, True):
        codec = PaletteCodec(7, seeded(), void=void)  # the corners of the cube
        native = codec.decode(gray + torch.tensor([0.02, 0.03, 0.01]).reshape(3, 1, 1, 1))
        assert bool((native == 0).all()) == void


def test_nan_stays_where_it_is() -> None:
    codec, native = PaletteCodec(9, seeded()), discs(9)
    picture = codec.encode(native, everywhere(native))
    picture[1, 0, 20:30, 20:40] = math.nan
    answer = codec.decode(picture)
    assert answer[0, 0, 20:30, 20:40].isnan().all()
    assert torch.equal(answer[..., :20, :], native[..., :20, :])
    assert int(answer.isnan().sum()) == 200


def test_clean_up_keeps_solid_areas_only() -> None:
    colours = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    picture = torch.zeros(3, 1, 16, 16)
    picture[0, :, 4:12, 4:12] = 0.9
    picture[1, :, 2, :] = 0.9  # a line of one pixel, not of exactly the colour
    labels, settled = settle(picture, colours, 0.5, strength=1)
    assert settled.all()
    assert int((labels == 1).sum()) == 64
    assert not (labels == 2).any()
    labels, _ = settle(picture, colours, 0.5, strength=0)
    assert int((labels == 2).sum()) == 16


PANOPTIC = {"stuff": (7, 11, 12), "things": (1, 2, 9), "instances": 5}


def test_panoptic_table_and_families() -> None:
    codec = PanopticCodec(**PANOPTIC, generator=seeded())
    rows = [tuple(row) for row in codec.table.tolist()]
    things = [(c, i) for c in (1, 2, 9) for i in range(1, 6)]
    assert rows[0] == (0, 0)
    assert sorted(rows) == sorted([(0, 0), (7, 0), (11, 0), (12, 0), *things])
    assert len(codec.colours.unique(dim=0)) == len(rows)
    own, other = [], []
    for c in (1, 2, 9):
        family = codec.table[:, 0] == c
        own.append(torch.cdist(codec.colours[family], codec.colours[family]).mean())
        other.append(torch.cdist(codec.colours[family], codec.colours[~family]).mean())
    assert max(own) < min(other)
    assert not torch.equal(PanopticCodec(**PANOPTIC, generator=seeded(1)).table, codec.table)


def test_panoptic_segments_come_back() -> None:
    codec = PanopticCodec(**PANOPTIC, generator=seeded())
    native = codec.random_native(3, 37, 53, seeded())
    assert torch.equal(codec.decode(codec.encode(native, everywhere(native))), native)
    numbered = torch.tensor([[1, 1, 2, 7, 1, 0], [40, 90, 40, 40, 0, 3]]).reshape(2, 1, 1, 6)
    answer = codec.decode(codec.encode(numbered, everywhere(numbered)))
    assert answer[0].flatten().tolist() == [1, 1, 2, 7, 0, 0]
    assert answer[1].flatten().tolist() == [1, 2, 1, 0, 0, 0]


def test_a_large_panoptic_palette_is_exact_in_8_bits() -> None:
    """COCO's 133 classes, 8 of each thing: 693 colours, at least 20 levels apart."""
    codec = PanopticCodec(stuff=range(81, 134), things=range(1, 81), generator=seeded())
    assert codec.distance > 20 / 255
    native = codec.random_native(1, 128, 128, seeded())
    picture = (codec.encode(native, everywhere(native)) * 255).round() / 255
    assert torch.equal(codec.decode(picture), native)


def test_panoptic_mistakes_are_told() -> None:
    codec = PanopticCodec(**PANOPTIC)
    native = torch.stack([torch.ones(1, 1, 7), torch.arange(7.0).reshape(1, 1, 7)])
    with pytest.raises(LavinditError, match="6 instances of class 1, but there are 5"):
        codec.encode(native, everywhere(native))
    with pytest.raises(LavinditError, match="no colour for class 3"):
        codec.encode(native * 0 + 3, everywhere(native))
    invalid = codec.encode(native * 0 + 3, ~everywhere(native))
    assert not invalid.any()
