"""Skeletons that touch, taken apart again."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from lavindit.codecs import KeypointsCodec

SIZE = 256
VALID = torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool)
# Someone standing with an arm stretched out, one unit tall.
POSE = torch.tensor(
    [(0.5, 0.08), (0.54, 0.03), (0.46, 0.03), (0.6, 0.06), (0.4, 0.06), (0.62, 0.2), (0.38, 0.2), (0.85, 0.24),
     (0.3, 0.34), (1.05, 0.3), (0.28, 0.48), (0.57, 0.5), (0.43, 0.5), (0.58, 0.75), (0.42, 0.74), (0.6, 0.98),
     (0.38, 0.97)]
)  # fmt: skip


def person(height: float, x: float, y: float) -> Tensor:
    """[1, 17, 1, 3]: all visible."""
    xy = POSE * height + torch.tensor([x, y])
    return torch.cat([xy, torch.full((17, 1), 2.0)], 1)[None, :, None]


def read(codec: KeypointsCodec, native: Tensor, blur: float = 0, noise: float = 0) -> Tensor:
    picture = codec.encode(native, VALID)
    if blur:
        picture = gaussian_blur(picture[:, 0], [9, 9], [blur, blur])[:, None]
    return codec.decode(picture + noise * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)))


def worst_px(answer: Tensor, truth: Tensor) -> float:
    """Of all joints that are drawn, people in the same order."""
    assert answer.shape == truth.shape
    shown = truth[..., 2] > 0
    assert torch.equal(answer[..., 2] > 0, shown)
    return float((answer - truth)[..., :2].norm(dim=-1)[shown].max())


@pytest.mark.parametrize(("blur", "noise", "worst"), [(0, 0, 1), (1, 0.05, 2)])
def test_an_arm_across_somebody_else(blur: float, noise: float, worst: float) -> None:
    """The left one's hand lies on the right one's arm, and limbs cross."""
    truth = torch.cat([person(160, 0, 30), person(160, 80, 20)])
    codec = KeypointsCodec(people=2)
    assert worst_px(read(codec, truth, blur, noise), truth) < worst


def test_three_in_a_row_from_left_to_right() -> None:
    truth = torch.cat([person(150, x, 50 + x / 9) for x in (0, 50, 100)])
    assert worst_px(read(KeypointsCodec(people=4), truth.flip(0)), truth) < 1


def test_limbs_that_skip_a_joint_which_is_not_drawn() -> None:
    truth = torch.cat([person(160, 0, 30), person(160, 80, 20)])
    truth[0, [0, 5, 12], 0, 2] = 0
    truth[1, [1, 3, 7], 0, 2] = 0
    assert worst_px(read(KeypointsCodec(people=2), truth), truth) < 1


def test_no_more_people_than_there_can_be() -> None:
    truth = torch.cat([person(150, x, 50 + x / 9) for x in (0, 50, 100)])
    picture = KeypointsCodec(people=3).encode(truth, VALID)
    assert KeypointsCodec(people=2).decode(picture).shape == (2, 17, 1, 3)
    assert KeypointsCodec(people=1).decode(picture).shape == (1, 17, 1, 3)


def test_a_stray_spot_is_nobody() -> None:
    truth = person(190, 30, 30)
    codec = KeypointsCodec(people=3)
    picture = codec.encode(truth, VALID)
    x, y = (truth[0, 9, 0, :2] + torch.tensor([7.0, 0.0])).round().long().tolist()
    picture[:, 0, y - 3 : y + 4, x - 3 : x + 4] = codec.colours[2][:, None, None]  # a second nose at the hand
    answer = codec.decode(picture)
    assert len(answer) == 1
    assert float((answer[0, 0, 0] - truth[0, 0, 0]).norm()) < 1


def test_skeletons_whose_parents_come_later_are_told_apart_by_not_touching() -> None:
    codec = KeypointsCodec(parents=(1, 2, -1), people=2)
    rows = torch.tensor([[60.0, 60.0, 2.0], [120.0, 60.0, 2.0], [180.0, 60.0, 2.0]])
    crossed = torch.stack([rows, rows.flip(0) + torch.tensor([30.0, 2.0, 0.0])])[:, :, None]
    assert len(codec.decode(codec.encode(crossed, VALID))) == 1
    crossed[1, ..., 1] += 60
    assert len(codec.decode(codec.encode(crossed, VALID))) == 2
