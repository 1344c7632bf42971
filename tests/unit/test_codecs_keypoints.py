"""Skeletons, drawn and read back."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from lavindit.codecs import KeypointsCodec
from lavindit.codecs.keypoints import COCO_PARENTS
from lavindit.errors import LavinditError

SIZE = 256
VALID = torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool)
# Someone standing with a hand raised, one unit tall.
POSE = torch.tensor(
    [(0.5, 0.08), (0.52, 0.06), (0.48, 0.06), (0.55, 0.07), (0.45, 0.07), (0.6, 0.2), (0.4, 0.2), (0.7, 0.3),
     (0.3, 0.1), (0.72, 0.45), (0.32, 0.02), (0.56, 0.5), (0.44, 0.5), (0.58, 0.75), (0.42, 0.74), (0.6, 0.98),
     (0.38, 0.97)]
)  # fmt: skip


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def person(height: float, x: float, y: float) -> Tensor:
    """[1, 17, 1, 3]: all visible."""
    xy = POSE * height + torch.tensor([x, y])
    return torch.cat([xy, torch.full((17, 1), 2.0)], 1)[None, :, None]


def read(codec: KeypointsCodec, native: Tensor, blur: float = 0, noise: float = 0) -> Tensor:
    picture = (codec.encode(native, VALID) * 255).round() / 255
    if blur:
        picture = gaussian_blur(picture[:, 0], [9, 9], [blur, blur])[:, None]
    return codec.decode(picture + noise * torch.randn(picture.shape, generator=seeded()))


def errors(answer: Tensor, truth: Tensor) -> Tensor:
    return (answer - truth)[..., :2].norm(dim=-1)


def test_joints_win_over_limbs() -> None:
    codec = KeypointsCodec(generator=seeded())
    truth = person(200, 20, 20)
    picture = codec.encode(truth, VALID)
    for j, (x, y) in enumerate(truth[0, :, 0, :2].round().long().tolist()):
        assert torch.equal(picture[:, 0, y, x], codec.colours[j + 2])
    assert int((picture[:, 0] == codec.colours[1][:, None, None]).all(0).sum()) > 300


@pytest.mark.parametrize(("height", "worst"), [(220, 0.5), (80, 1.0), (40, 1.0)])
def test_overlapping_joints_are_found(height: float, worst: float) -> None:
    truth = person(height, 10.3, 8.6)
    answer = read(KeypointsCodec(generator=seeded()), truth)
    assert answer.shape == truth.shape
    assert (answer[..., 2] == 2).all()
    assert float(errors(answer, truth).max()) < worst


def test_joints_in_the_same_place() -> None:
    truth = person(200, 20, 20)
    truth[0, :5, 0, :2] = torch.tensor([120.0, 36.0])
    answer = read(KeypointsCodec(generator=seeded()), truth)
    assert (answer[..., 2] == 2).all()
    assert float(errors(answer, truth).max()) < 1.5


def test_joints_at_the_border_are_not_drawn_inwards() -> None:
    truth = person(200, 20, 20)
    truth[0, 9, 0, :2] = torch.tensor([0.0, 255.0])
    answer = read(KeypointsCodec(generator=seeded()), truth)
    assert float(errors(answer, truth)[0, 9]) < 0.7


def test_invisible_joints_are_zero_and_hidden_ones_visible() -> None:
    truth = person(200, 20, 20)
    truth[0, [0, 7, 13], 0, 2] = 0
    truth[0, 8, 0, 2] = 1
    answer, scores = KeypointsCodec(generator=seeded()).decode_scored(
        KeypointsCodec(generator=seeded()).encode(truth, VALID)
    )
    assert not answer[0, [0, 7, 13]].any()
    assert float(answer[0, 8, 0, 2]) == 2
    assert torch.equal(scores > 0, truth[..., 2] > 0)
    assert float(scores.max()) <= 1


def test_blur_and_noise() -> None:
    """Blurred by 1 px and with noise of 0.05: all joints of someone 200 px tall within 2 px."""
    truth = person(200, 20, 20)
    answer = read(KeypointsCodec(generator=seeded()), truth, 1.0, 0.05)
    assert (answer[..., 2] == 2).all()
    assert float(errors(answer, truth).max()) < 2


def test_several_people_from_left_to_right() -> None:
    truth = torch.cat([person(120, 120, 60), person(90, 20, 20)])
    truth[0, [0, 5, 6], 0, 2] = 0  # still one figure
    codec = KeypointsCodec(people=3, generator=seeded())
    answer = read(codec, truth)
    assert answer.shape == (2, 17, 1, 3)
    assert float(errors(answer[0], truth[1]).max()) < 1
    shown = truth[0, :, 0, 2] > 0
    assert torch.equal(answer[1, :, 0, 2] > 0, shown)
    assert float(errors(answer[1], truth[0])[shown].max()) < 1


def test_other_skeletons_and_clips() -> None:
    codec = KeypointsCodec(parents=(1, -1, 1, 2), generator=seeded())
    native = codec.random_native(4, 63, 41, seeded())
    valid = torch.ones(1, 4, 63, 41, dtype=torch.bool)
    answer = codec.decode(codec.encode(native, valid))
    assert answer.shape == (1, 4, 4, 3)
    assert float((answer - native).abs().max()) <= codec.tolerance


def test_mistakes_are_told() -> None:
    truth = person(200, 20, 20)
    with pytest.raises(LavinditError, match="got 2 of 17"):
        KeypointsCodec().encode(truth.repeat(2, 1, 1, 1), VALID)
    with pytest.raises(LavinditError, match="got 1 of 16"):
        KeypointsCodec().encode(truth[:, :16], VALID)
    assert len(COCO_PARENTS) == 17
