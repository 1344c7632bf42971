"""Boxes, drawn and read back."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou
from torchvision.transforms.functional import gaussian_blur

from lavindit.codecs import BoxesCodec
from lavindit.errors import LavinditError

SIZE = 256
VALID = torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def boxes(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows)[:, None]


def random_boxes(count: int, seed: int, least: float = 24) -> Tensor:
    size = least + (SIZE / 2 - least) * torch.rand(count, 2, generator=seeded(seed))
    corner = (SIZE - size) * torch.rand(count, 2, generator=seeded(seed + 100))
    return torch.cat([corner, corner + size], 1)[:, None]


def read(codec: BoxesCodec, native: Tensor, blur: float = 0, noise: float = 0) -> Tensor:
    picture = (codec.encode(native, VALID) * 255).round() / 255
    if blur:
        picture = gaussian_blur(picture[:, 0], [9, 9], [blur, blur])[:, None]
    picture = picture + noise * torch.randn(picture.shape, generator=seeded())
    return codec.decode(picture)


def mean_iou(answer: Tensor, truth: Tensor) -> float:
    """Mean over the true boxes of the best IoU."""
    return float(box_iou(truth[:, 0], answer[:, 0].nan_to_num()).amax(1).mean())


def test_a_single_box_is_a_white_rectangle() -> None:
    picture = BoxesCodec().encode(boxes((10, 20, 50, 40.25)), VALID)[:, 0]
    assert (picture[:, 20:40, 10:50] == 1).all()
    torch.testing.assert_close(picture[:, 40, 10:50], torch.full((3, 40), 0.25))
    assert float(picture.sum()) == pytest.approx(3 * 40 * 20.25)


@pytest.mark.parametrize("seed", range(10))
def test_a_single_box_to_a_twentieth_of_a_pixel(seed: int) -> None:
    truth = random_boxes(1, seed, least=8)
    assert float((read(BoxesCodec(), truth) - truth).abs().max()) < 0.05


@pytest.mark.parametrize("count", [2, 5, 12])
def test_many_overlapping_boxes(count: int) -> None:
    codec = BoxesCodec(16, seeded())
    scores = []
    for seed in range(5):
        truth = random_boxes(count, seed)
        answer = read(codec, truth)
        assert answer.shape == truth.shape
        scores.append(mean_iou(answer, truth))
    assert sum(scores) / len(scores) > 0.99


@pytest.mark.parametrize(
    "rows",
    [
        ((20, 20, 200, 200), (60, 60, 120, 120)),  # nested
        ((20, 20, 120, 120), (120, 20, 200, 120)),  # touching
        ((20, 20, 120, 200), (20, 20, 200, 200)),  # three edges shared
        ((0, 0, 256, 256), (0, 0, 256, 250)),  # nearly the same, at the border
        ((20, 20, 220, 120), (120.4, 10.3, 150.6, 140.7)),  # a cross
    ],
)
def test_boxes_that_share_edges(rows: tuple[tuple[float, float, float, float], ...]) -> None:
    truth = boxes(*rows)
    answer = read(BoxesCodec(4, seeded()), truth)
    assert answer.shape == truth.shape
    assert mean_iou(answer, truth) > 0.99


def test_blur_and_noise() -> None:
    """Blurred by 1 px and with noise of 0.05, five overlapping boxes keep an IoU of 0.98."""
    codec = BoxesCodec(8, seeded())
    scores = [mean_iou(read(codec, truth, 1.0, 0.05), truth) for truth in (random_boxes(5, seed) for seed in range(8))]
    assert sum(scores) / len(scores) > 0.98


def test_boxes_are_cut_to_the_picture() -> None:
    answer = read(BoxesCodec(), boxes((-30, 10, 60, 300)))
    torch.testing.assert_close(answer, boxes((0.0, 10.0, 60.0, 256.0)), rtol=0, atol=0.05)


def test_absent_boxes() -> None:
    codec = BoxesCodec(4, seeded())
    truth = torch.stack([random_boxes(3, 0)[:, 0], random_boxes(3, 1)[:, 0]], 1)
    truth[0, 1] = math.nan
    truth[1] = math.nan
    truth[2, 0] = torch.tensor([5.0, 5, 5, 9])
    valid = VALID.expand(1, 2, SIZE, SIZE)
    answer, scores = codec.decode_scored(codec.encode(truth, valid))
    assert answer.shape == (2, 2, 4)  # box 1 is in no frame
    assert torch.equal(answer.isfinite().all(2), torch.tensor([[True, False], [False, True]]))
    assert torch.equal(scores > 0, answer.isfinite().all(2))
    torch.testing.assert_close(answer[0, 0], truth[0, 0], rtol=0, atol=0.05)


def test_a_clean_box_is_trusted_more_than_a_torn_one() -> None:
    codec = BoxesCodec()
    picture = codec.encode(boxes((40, 40, 200, 200)), VALID)
    whole = codec.decode_scored(picture)[1]
    picture[..., 30:100, 30:120] = 0
    assert float(whole) == 1
    assert float(codec.decode_scored(picture)[1]) < 0.9


def test_too_many_boxes_are_told() -> None:
    with pytest.raises(LavinditError, match="5 boxes, but codec 'boxes' has 4 colours"):
        BoxesCodec(4).encode(random_boxes(5, 0), VALID)
