"""Boxes against pycocotools, torchvision and scikit-image."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from instance_samples import H, W, blobs, coco_figures, everywhere, feed, figures, random_samples, strip
from lavindit.metrics import BoxMetric, ForegroundMetric
from lavindit.metrics import functional as MF


def boxes_of(native: Tensor, valid: Tensor) -> list[tuple[int, int, int, np.ndarray]]:
    """(frame, class, id, box) of each instance, by scikit-image; box as left, top, right, bottom."""
    from skimage.measure import regionprops

    found = []
    for t in range(native.shape[1]):
        maps = native[:, t].numpy()
        kinds = maps[0] if len(maps) == 2 else np.zeros((H, W))
        for kind in np.unique(kinds):
            ids = np.where(valid[0, t].numpy() & (kinds == kind), maps[-1], 0).astype(int)
            for region in regionprops(ids):
                top, left, bottom, right = region.bbox
                found.append((t, int(kind), region.label, np.array([left, top, right, bottom])))
    return found


def coco_boxes(samples: list[tuple], area_px: tuple[float, float] = (0, 1e10)) -> list[float]:
    truths: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    frames = samples[0][1].shape[1]
    for number, (answer, truth, valid, meta) in enumerate(samples):
        for native, into in ((truth, truths), (answer, answers)):
            for t, kind, name, (left, top, right, bottom) in boxes_of(native, valid):
                size = [int(right - left), int(bottom - top)]
                into.append(
                    {
                        "image_id": number * frames + t,
                        "category_id": kind,
                        "bbox": [int(left), int(top), *size],
                        "area": size[0] * size[1],
                    }
                )
                if into is answers:
                    into[-1]["score"] = meta["scores"][name] if "scores" in meta else size[0] * size[1]
    return coco_figures(truths, answers, "bbox", len(samples) * frames, area_px)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_against_pycocotools(seed: int, by_class: bool) -> None:
    samples = random_samples(20 + seed, by_class=by_class)
    found = figures(BoxMetric(), *samples)
    assert 10 < found["ap"] < 90
    assert list(found.values())[1:] == pytest.approx(coco_boxes(samples), rel=1e-9)


def test_clips_frame_by_frame_against_pycocotools() -> None:
    samples = []
    for seed in range(3):
        pair = [torch.cat([blobs(seed, jitter), blobs(seed + 50, jitter)], dim=1) for jitter in (1.5, 0.0)]
        samples.append((*pair, everywhere(pair[0]), {}))
    assert list(figures(BoxMetric(), *samples).values())[1:] == pytest.approx(coco_boxes(samples), rel=1e-9)


def test_scores_and_small_ones_against_pycocotools() -> None:
    rng = np.random.default_rng(0)
    samples = [(a, t, v, {"scores": dict(enumerate(rng.random(20)))}) for a, t, v, _ in random_samples(30)]
    metric = BoxMetric(min_area_px=200)
    found = figures(metric, *samples)
    assert list(found.values())[1:] == pytest.approx(coco_boxes(samples, (200, 1e10)), rel=1e-9)
    assert metric.left_aside() > 0


@pytest.mark.parametrize("seed", range(3))
def test_overlap_against_torchvision(seed: int) -> None:
    from torchvision.ops import box_iou

    corners = 60 * torch.rand(2, 9, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    a, t = torch.cat([corners.amin(dim=2), corners.amax(dim=2)], dim=-1)
    assert torch.allclose(MF.box_iou(a, t[:5]), box_iou(a, t[:5]), rtol=1e-12, atol=0)


def test_overlap_by_hand() -> None:
    unit = torch.tensor([0.0, 0, 2, 2])
    others = torch.tensor(
        [
            [0.0, 0, 2, 2],
            [1, 1, 3, 3],
            [2, 0, 4, 2],
            [1, 1, 1, 2],
            [2, 2, 0, 0],
            [math.nan, 0, 2, 2],
            [0, 0, math.inf, 2],
        ]
    )
    assert MF.box_iou(unit[None], others)[0].tolist() == pytest.approx([1, 1 / 7, 0, 0, 0, 0, 0])
    assert MF.box_area(others).tolist() == [4, 4, 4, 0, 0, 0, 0]
    assert MF.box_iou(unit[None], others[:0]).shape == (1, 0)
    assert MF.box_iou(others[3:4], others[3:4]).item() == 0


def test_tight_boxes_against_skimage() -> None:
    native, valid = blobs(4), everywhere(blobs(4))
    found = MF.find_instances(native, valid[0])
    expected = {name: box.tolist() for _, _, name, box in boxes_of(native, valid)}
    boxes = MF.tight_boxes(found, H, W).long().tolist()
    assert dict(zip(found.ids.long().tolist(), boxes, strict=True)) == expected
    assert MF.tight_boxes(MF.find_instances(0 * native, valid[0]), H, W).shape == (0, 4)


def filled(left: int, top: int, right: int, bottom: int) -> Tensor:
    mask = torch.zeros(1, 1, H, W)
    mask[..., top:bottom, left:right] = 1
    return mask


def test_single_boxes() -> None:
    """One box a picture, drawn as a mask: the mean IoU, which for filled boxes is that of the masks."""
    rng = np.random.default_rng(3)
    samples, expected = [], []
    for _ in range(6):
        low, size, step = rng.integers(0, 15, 2), rng.integers(8, 20, 2), rng.integers(-3, 4, 2)
        truth, answer = filled(*low, *(low + size)), filled(*(low + step).clip(0), *(low + size + step))
        shade = answer * 0.8 + 0.1 * (1 - answer)  # as a decoded picture has it
        samples.append((shade, truth, everywhere(truth)))
        expected.append(figures(ForegroundMetric(), samples[-1])["miou"])
    assert figures(BoxMetric(), *samples)["miou"] == pytest.approx(np.mean(expected))
    assert figures(BoxMetric(), (filled(0, 0, 8, 8), filled(4, 0, 12, 8), samples[0][2])) == pytest.approx(
        {"miou": 100 / 3, "ap": 0, "ap50": 0, "ap75": 0}
    )


def test_single_boxes_by_class() -> None:
    """The mean over classes of the mean IoU of a class, not the mean over pictures."""
    valid = everywhere(filled(0, 0, 8, 8))
    full, third = filled(0, 0, 8, 8), filled(4, 0, 12, 8)
    metric = BoxMetric()
    for number, (answer, class_id) in enumerate([(full, 3), (third, 3), (third, 3), (full, 7)]):
        metric.update(answer, full, valid, number, {"class_id": class_id})
    assert float(metric.compute()["miou"]) == pytest.approx(100 * ((1 + 2 / 3) / 3 + 1) / 2)


def random_boxes(seed: int, frames: int = 1) -> list[tuple[Tensor, Tensor, Tensor, dict[str, Any]]]:
    """Boxes [M, T, 4] that overlap one another; answers are off by a little, absent, or too many."""
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(5):
        low = 30 * rng.random((1 + number, frames, 2))
        truth = np.concatenate([low, low + 4 + 20 * rng.random(low.shape)], axis=-1)
        answer = np.concatenate([truth + 1.5 * rng.standard_normal(truth.shape), truth[:1] + 9])
        answer[rng.random(answer.shape[:2]) < 0.1] = math.nan
        answer[0, 0, 2] = answer[0, 0, 0] - 1  # turned inside out: absent
        valid = torch.ones(1, frames, H, W).bool()
        samples.append((torch.from_numpy(answer), torch.from_numpy(truth), valid, {}))
    return samples


def coco_lists(samples: list[tuple[Tensor, Tensor, Tensor, dict[str, Any]]]) -> list[float]:
    truths: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    frames = samples[0][1].shape[1]
    for number, (answer, truth, _, meta) in enumerate(samples):
        for native, into in ((truth, truths), (answer, answers)):
            for m, t in np.ndindex(*native.shape[:2]):
                left, top, right, bottom = native[m, t].tolist()
                if right > left and bottom > top:
                    size = [right - left, bottom - top]
                    common = {"image_id": number * frames + t, "category_id": 1, "bbox": [left, top, *size]}
                    score = float(meta["scores"][m]) if "scores" in meta else size[0] * size[1]
                    into.append({**common, "area": size[0] * size[1], **({"score": score} if into is answers else {})})
    return coco_figures(truths, answers, "bbox", len(samples) * frames)


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_lists_of_boxes_against_pycocotools(seed: int, frames: int) -> None:
    from torchvision.ops import box_iou

    samples = random_boxes(seed, frames)
    found = figures(BoxMetric(), *samples)
    assert 10 < found["ap"] < 90
    assert list(found.values())[1:] == pytest.approx(coco_lists(samples), rel=1e-9)
    best = []
    for answer, truth, *_ in samples:
        for t in range(frames):
            there = (answer[:, t, 2:] > answer[:, t, :2]).all(dim=1)
            iou = box_iou(answer[there, t], truth[:, t])
            best.append(torch.cat([iou, iou.new_zeros(1, len(truth))]).amax(dim=0))
    assert found["miou"] == pytest.approx(100 * float(torch.cat(best).mean()), rel=1e-9)
    scores = np.random.default_rng(seed).random(20)
    ranked = [(a, t, v, {"scores": scores[: len(a)]}) for a, t, v, _ in samples]
    assert list(figures(BoxMetric(), *ranked).values())[1:] == pytest.approx(coco_lists(ranked), rel=1e-9)


def test_lists_of_boxes_by_hand() -> None:
    truth = torch.tensor([[[0.0, 0, 10, 10]], [[0, 0, 4, 4]]])  # two boxes, one frame
    valid = torch.ones(1, 1, H, W).bool()
    none = truth[:0]
    assert list(figures(BoxMetric(), (truth.flip(0), truth, valid)).values()) == pytest.approx([100] * 4)
    for lost in (none, torch.full_like(truth, math.nan), torch.full_like(truth, math.inf), 0 * truth):
        assert set(figures(BoxMetric(), (lost, truth, valid)).values()) == {0}
        assert all(math.isnan(value) for value in figures(BoxMetric(), (truth, lost, valid)).values())
    half = figures(BoxMetric(), (truth[:1], truth, valid))
    assert half["ap"] == pytest.approx(100 * 51 / 101)
    assert half["miou"] == pytest.approx(100 * (1 + 16 / 100) / 2)
    assert all(math.isnan(value) for value in figures(BoxMetric(), (truth, truth, ~valid)).values())
    clip = truth.repeat(1, 2, 1)
    late = torch.cat([~valid, valid], dim=1)  # the first frame has no valid pixel, so it does not count
    wrong = clip.clone()
    wrong[:, 0] = math.nan
    assert figures(BoxMetric(), (wrong, clip, late))["ap"] == pytest.approx(100)
    assert figures(BoxMetric(), (filled(0, 0, 10, 10), truth[:1], valid))["miou"] == pytest.approx(100)


def test_degenerate_samples() -> None:
    truth = blobs(2)
    valid, empty = everywhere(truth), torch.zeros_like(truth)
    assert list(figures(BoxMetric(), (truth, truth, valid)).values()) == pytest.approx(list(BoxMetric.ideals))
    assert all(math.isnan(value) for value in figures(BoxMetric(), (truth, truth, ~valid)).values())
    for bad in (math.nan, math.inf, -math.inf, 0.0):
        some = truth.clone()
        some[:, :, :10] = bad
        partly = figures(BoxMetric(), (some, truth, valid))
        assert all(0 < value < 100 for value in partly.values())
        assert set(figures(BoxMetric(), (torch.full_like(truth, bad), truth, valid)).values()) == {0}
    some = truth.clone()
    some[:, :, 5:20] = math.nan
    masked = valid.clone()
    masked[:, :, 5:20] = False
    answer = blobs(2, 1.5)
    assert figures(BoxMetric(), (answer, some, valid)) == figures(BoxMetric(), (answer, truth, masked))
    one = strip(0, 3, 0, 0)
    assert list(figures(BoxMetric(), (one, one, everywhere(one))).values()) == pytest.approx([100] * 4)
    assert all(math.isnan(v) for v in figures(BoxMetric(), (truth, empty, valid)).values())


def test_a_sample_counts_once() -> None:
    samples = random_samples(6)
    metric = feed(BoxMetric(), samples, [4, 2, 0, 1, 3, 0, 2])
    assert {k: float(v) for k, v in metric.compute().items()} == figures(BoxMetric(), *samples)
