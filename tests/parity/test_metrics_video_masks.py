"""J and F against DAVIS's definition, written with scikit-image, and by hand."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from instance_samples import blobs, everywhere, feed, figures
from lavindit.metrics import VideoMaskMetric
from lavindit.metrics import functional as MF

Pairing = Literal["best", "id"]


def clip(seed: int, jitter: float = 0.0, frames: int = 3, scale: int = 1) -> Tensor:
    """Ids [1, T, 40 scale, 56 scale]: regions that wobble, each gone in some frame or other."""
    native = torch.cat([blobs(seed, jitter + 0.3 * t, count=9) for t in range(frames)], dim=1)
    return native.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


# ---------------------------------------------------------------- the reference


def boundary(mask: np.ndarray) -> np.ndarray:
    """A pixel whose right, lower or lower right neighbour differs; at the border, the one neighbour there is."""
    edge = np.zeros_like(mask)
    here = mask[:-1, :-1]
    edge[:-1, :-1] = (here != mask[:-1, 1:]) | (here != mask[1:, :-1]) | (here != mask[1:, 1:])
    edge[-1, :-1] = mask[-1, :-1] != mask[-1, 1:]
    edge[:-1, -1] = mask[:-1, -1] != mask[1:, -1]
    return edge


def davis_frame(answer: np.ndarray, truth: np.ndarray, void: np.ndarray) -> tuple[float, float]:
    """J and F of two masks, as `db_eval_iou` and `f_measure` have them."""
    from skimage.morphology import dilation, disk

    union = ((answer | truth) & ~void).sum()
    region = (answer & truth & ~void).sum() / union if union else 1.0
    reach = disk(int(np.ceil(0.008 * np.linalg.norm(truth.shape))))
    a, t = boundary(answer & ~void), boundary(truth & ~void)
    near_a, near_t = (dilation(edge.astype(np.uint8), reach).astype(bool) for edge in (a, t))
    if not a.any() or not t.any():
        return region, float(a.any() == t.any())
    precision, recall = (a & near_t).sum() / a.sum(), (t & near_a).sum() / t.sum()
    return region, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def davis_objects(answer: Tensor, truth: Tensor, valid: Tensor, pairing: Pairing) -> np.ndarray:
    """[objects, 2]: J and F of each true object, the mean over frames."""
    from scipy.optimize import linear_sum_assignment

    a, t, void = answer[0].numpy(), truth[0].numpy(), ~valid[0].numpy()
    ids = [name for name in np.unique(t[~void]) if name > 0]
    names = ids if pairing == "id" else [name for name in np.unique(a[~void]) if name > 0]
    names = [*names, *[-1] * (len(ids) - len(names))]
    scores = np.zeros((len(names), len(ids), len(t), 2))
    for i, j, frame in np.ndindex(scores.shape[:3]):
        scores[i, j, frame] = davis_frame(a[frame] == names[i], t[frame] == ids[j], void[frame])
    means = scores.mean(axis=2)
    if pairing == "id":
        return means[range(len(ids)), range(len(ids))]
    rows, columns = linear_sum_assignment(-means.mean(axis=-1))
    return means[rows, columns][np.argsort(columns)]


def reference(samples: list[tuple[Tensor, Tensor, Tensor]], pairing: Pairing) -> list[float]:
    region, edge = 100 * np.concatenate([davis_objects(*sample, pairing) for sample in samples]).mean(axis=0)
    return [(region + edge) / 2, region, edge]


# ---------------------------------------------------------------- parity


@pytest.mark.parametrize("pairing", ["best", "id"])
@pytest.mark.parametrize(("seed", "scale"), [(0, 1), (1, 1), (2, 3)])  # at scale 3 a boundary may be 2 px off
def test_against_davis(seed: int, scale: int, pairing: Pairing) -> None:
    samples = []
    for number in range(3):
        truth = clip(10 * seed + number, scale=scale)
        answer = clip(10 * seed + number, 1.5, scale=scale)
        if pairing == "best":  # whatever the ids are
            answer = torch.where(answer > 0, (4 * answer) % 11, answer)
        valid = everywhere(truth)
        valid[..., : 6 * scale, 20 * scale : 30 * scale] = False
        samples.append((answer, truth, valid))
    found = figures(VideoMaskMetric(pairing), *samples)
    assert 20 < found["j_and_f"] < 95
    assert list(found.values()) == pytest.approx(reference(samples, pairing), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_boundaries_against_loops(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    masks = torch.rand(4, 17, 23, generator=g) < torch.tensor([0.02, 0.3, 0.7, 1.0])[:, None, None]
    assert np.array_equal(MF.mask_boundary(masks).numpy(), np.stack([boundary(mask) for mask in masks.numpy()]))


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 8])
def test_dilation_against_skimage(radius: int) -> None:
    from skimage.morphology import dilation, disk

    masks = torch.rand(3, 30, 41, generator=torch.Generator().manual_seed(radius)) < 0.01
    expected = np.stack([dilation(mask, disk(radius)) for mask in masks.numpy().astype(np.uint8)])
    assert np.array_equal(MF.dilate_disk(masks, radius).numpy(), expected.astype(bool))


@pytest.mark.parametrize(("size", "radius"), [((64, 64), 1), ((256, 256), 3), ((480, 854), 8)])
def test_reach_of_a_boundary(size: tuple[int, int], radius: int) -> None:
    assert MF.boundary_radius_px(*size) == radius == math.ceil(0.008 * np.linalg.norm(size))


# ---------------------------------------------------------------- by hand


def square(shift: int = 0, name: float = 1.0, size: int = 64) -> Tensor:
    native = torch.zeros(1, 1, size, size)
    native[..., 20 + shift : 30 + shift, 20:30] = name
    return native


def test_by_hand() -> None:
    truth = square()
    found = figures(VideoMaskMetric(), (square(1), truth, everywhere(truth)))  # one pixel is within reach
    assert found == pytest.approx({"j": 100 * 90 / 110, "f": 100, "j_and_f": 50 * (1 + 90 / 110)})
    far = figures(VideoMaskMetric(), (square(20), truth, everywhere(truth)))
    assert (far["j"], far["f"]) == (0, 0)
    assert MF.mask_boundary(truth[0] > 0).sum() == 40
    still = torch.cat([truth, truth], dim=1)
    late = torch.cat([torch.zeros_like(truth), truth], dim=1)  # the object is missed in one frame of two
    assert set(figures(VideoMaskMetric(), (late, still, everywhere(still))).values()) == {50}
    assert set(figures(VideoMaskMetric(), (late, late, everywhere(still))).values()) == {100}


def test_which_answer_belongs_to_which_object() -> None:
    truth = square(0, 1) + square(20, 2)
    swapped = square(0, 2) + square(20, 1)
    valid = everywhere(truth)
    assert set(figures(VideoMaskMetric("best"), (swapped, truth, valid)).values()) == {100}
    assert set(figures(VideoMaskMetric("id"), (swapped, truth, valid)).values()) == {0}
    merged = square(0, 7) + square(20, 7)  # one answer serves one object
    found = figures(VideoMaskMetric("best"), (merged, truth, valid))
    assert found["j"] == pytest.approx(25)
    large = torch.full_like(truth, 9.0)
    large[truth > 0] = truth[truth > 0]
    assert set(figures(VideoMaskMetric(max_answers=3), (large, truth, valid)).values()) == {100}
    assert figures(VideoMaskMetric(max_answers=1), (large, truth, valid))["j"] < 10  # only the largest takes part


def test_objects_of_all_clips_count_alike() -> None:
    one, two = square(0, 1), square(0, 1) + square(20, 2)
    valid = everywhere(one)
    nothing = torch.zeros_like(one)
    found = figures(VideoMaskMetric(), (one, one, valid), (nothing, two, valid))
    assert found == pytest.approx({"j": 100 / 3, "f": 100 / 3, "j_and_f": 100 / 3})
    metric = feed(VideoMaskMetric(), [(one, one, valid), (nothing, two, valid)], [1, 0, 1, 1])
    assert float(metric.compute()["j"]) == pytest.approx(100 / 3)
    assert metric.unique_rows().shape == (2, 3)
    assert float(metric.standard_error()["j"]) > 0


# ---------------------------------------------------------------- degenerate


@pytest.mark.parametrize("pairing", ["best", "id"])
def test_answers_that_are_not_numbers(pairing: Pairing) -> None:
    truth = clip(4)
    valid = everywhere(truth)
    perfect = figures(VideoMaskMetric(pairing), (truth, truth, valid))
    assert tuple(perfect.values()) == VideoMaskMetric.ideals
    for bad in (math.nan, math.inf, -math.inf):
        some = truth.clone()
        some[:, :, :2, :20] = bad
        partly = figures(VideoMaskMetric(pairing), (some, truth, valid))
        wholly = figures(VideoMaskMetric(pairing), (torch.full_like(truth, bad), truth, valid))
        assert all(0 < value < 100 for value in partly.values())
        assert set(wholly.values()) == {0}
    # no answer where there is nothing to find is wrong too, in a frame without the object as well
    late = torch.cat([torch.zeros_like(square()), square()], dim=1)
    lost = late.clone()
    lost[:, 0] = math.nan
    assert set(figures(VideoMaskMetric(pairing), (lost, late, everywhere(late))).values()) == {50}


def test_empty_clips() -> None:
    truth, empty = square(), torch.zeros_like(square())
    valid = everywhere(truth)
    assert set(figures(VideoMaskMetric(), (empty, truth, valid)).values()) == {0}
    for answer in (empty, truth, torch.full_like(truth, math.nan)):
        assert all(math.isnan(v) for v in figures(VideoMaskMetric(), (answer, empty, valid)).values())
    perfect = figures(VideoMaskMetric(), (truth, truth, valid), (truth, empty, valid))
    assert set(perfect.values()) == {100}  # DAVIS does not count what is found where there is nothing


def test_what_is_not_valid_is_not_there() -> None:
    answer, truth = clip(5, 1.5), clip(5)
    valid = everywhere(truth)
    valid[:, :, 10:20] = False
    expected = figures(VideoMaskMetric(), (answer, truth, valid))
    assert figures(VideoMaskMetric(), (answer, torch.where(valid, truth, math.nan), everywhere(truth))) == expected
    assert figures(VideoMaskMetric(), (torch.where(valid, answer, math.nan), truth, valid)) == expected
    assert all(math.isnan(v) for v in figures(VideoMaskMetric(), (answer, truth, ~everywhere(truth))).values())
    valid[:, 1] = False  # a frame without a valid pixel is left out, not full marks
    frames = [native[:, [0, 2]] for native in (answer, truth, valid)]
    assert figures(VideoMaskMetric(), (answer, truth, valid)) == figures(VideoMaskMetric(), tuple(frames))


def test_a_pixel_without_an_answer_is_one_too_many() -> None:
    truth = square()
    answer = truth.clone()
    answer[..., :2, :5] = math.nan  # ten of them, far from the object
    answer[..., 20, 20:24] = math.nan  # and four of its own, along its border
    found = figures(VideoMaskMetric(), (answer, truth, everywhere(truth)))
    a, t = boundary(answer[0, 0].numpy() == 1), boundary(truth[0, 0].numpy() == 1)
    assert found["j"] == pytest.approx(100 * 96 / 110)
    precision, recall = a.sum() / (a.sum() + 14), 1  # the dent is one pixel deep, within reach
    assert t.sum() == 40
    assert found["f"] == pytest.approx(100 * 2 * precision * recall / (precision + recall))


def test_objects_come_in_order_of_their_ids() -> None:
    truth = square(-20, 3) + square(0, 1) + square(20, 2)
    answer = square(-20, 2) + square(1, 4)  # the second object is off by a pixel, the third is missed
    for answered in (answer, answer + square(20, 9).roll(30, -1) + square(0, 8).roll(30, -1)):
        scores = MF.score_objects(answered, truth, everywhere(truth))
        assert scores[:, 0].tolist() == pytest.approx([90 / 110, 0, 1])
