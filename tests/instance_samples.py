"""Random instances, and their figures by pycocotools, for parity tests."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lavindit.metrics import RowMetric

# pycocotools and scipy are imported where they are used: the spawned processes import this file too.

H, W = 40, 56
Sample = tuple[Tensor, Tensor, Tensor, dict[str, Any]]  # answer, truth, valid, meta


def blobs(seed: int, jitter: float = 0.0, count: int = 16) -> Tensor:
    """Ids [1, 1, 40, 56] of random regions, a third of them background; jitter moves and sometimes merges them."""
    truth, change = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    points = truth.random((count, 2)) * (H, W) + jitter * change.standard_normal((count, 2))
    ids = np.where(truth.random(count) < 0.35, 0, truth.permutation(count) + 1)
    if jitter:
        ids = np.where(change.random(count) < 0.2, change.integers(0, count, count), ids)
    y, x = np.mgrid[:H, :W]
    nearest = ((points[:, 0, None, None] - y) ** 2 + (points[:, 1, None, None] - x) ** 2).argmin(0)
    return torch.from_numpy(ids[nearest])[None, None].double()


def with_classes(ids: Tensor) -> Tensor:
    """Three classes, by id."""
    return torch.cat([ids % 3, ids])


def everywhere(native: Tensor) -> Tensor:
    return torch.ones_like(native[:1]).bool()


def random_samples(seed: int, count: int = 5, by_class: bool = False) -> list[Sample]:
    samples: list[Sample] = []
    for number in range(count):
        pair = [blobs(100 * seed + number, jitter) for jitter in (1.5, 0.0)]
        valid = everywhere(pair[0])
        valid[..., :7, 30:45] = False
        answer, truth = [with_classes(native) for native in pair] if by_class else pair
        samples.append((answer, truth, valid, {}))
    return samples


def feed(metric: RowMetric, samples: Sequence[tuple], numbers: Sequence[int] | None = None) -> RowMetric:
    for number in range(len(samples)) if numbers is None else numbers:
        answer, truth, valid, *meta = samples[number]
        metric.update(answer, truth, valid, number, *meta)
    return metric


def figures(metric: RowMetric, *samples: tuple) -> dict[str, float]:
    return {name: float(value) for name, value in feed(metric, samples).compute().items()}


# ---------------------------------------------------------------- the reference


def coco_figures(
    truths: list[dict[str, Any]],
    answers: list[dict[str, Any]],
    kind: str,
    images: int,
    area_px: tuple[float, float] = (0, 1e10),
    most: int = 100,
    sigmas: Sequence[float] | None = None,
) -> list[float]:
    """AP, AP50 and AP75 in % by COCOeval, of annotations and results without their ids."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    classes = sorted({t["category_id"] for t in truths} | {a["category_id"] for a in answers})
    dataset = coco.COCO()
    dataset.dataset = {
        "info": {},
        "images": [{"id": i, "height": H, "width": W} for i in range(images)],
        "categories": [{"id": c, "name": str(c)} for c in classes],
        "annotations": [{"id": i + 1, "iscrowd": 0, **t} for i, t in enumerate(truths)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        dataset.createIndex()
        run = evaluation.COCOeval(dataset, dataset.loadRes(answers), kind)
        run.params.areaRng, run.params.areaRngLbl, run.params.maxDets = [list(area_px)], ["all"], [most]
        if sigmas is not None:
            run.params.kpt_oks_sigmas = np.array(sigmas)
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][..., 0, 0]  # [threshold, recall, class]
    parts = [precision, precision[run.params.iouThrs == 0.5], precision[run.params.iouThrs == 0.75]]
    return [100 * float(part[part > -1].mean()) for part in parts]


def masks_of(native: Tensor, usable: np.ndarray, class_id: int) -> list[tuple[int, int, np.ndarray]]:
    """(class, id, mask [T H, W]) of each instance: frames lie below one another, so a clip is one image."""
    maps = native.numpy().reshape(len(native), -1, W)
    kinds = maps[0] if len(maps) == 2 else np.full_like(maps[0], class_id)
    found = []
    for kind in np.unique(kinds):
        for name in np.unique(maps[-1]):
            mask = (kinds == kind) & (maps[-1] == name) & usable
            if name > 0 and mask.any():
                found.append((int(kind), int(name), mask))
    return found


def coco_masks(samples: Sequence[Sample], **options: Any) -> list[float]:
    from_mask = pytest.importorskip("pycocotools.mask")
    truths, answers = [], []
    for image, (answer, truth, valid, meta) in enumerate(samples):
        usable = valid.numpy().reshape(-1, W)
        for native, into in ((truth, truths), (answer, answers)):
            for kind, name, mask in masks_of(native, usable, meta.get("class_id", 0)):
                score = meta["scores"][name] if "scores" in meta else int(mask.sum())
                into.append(
                    {
                        "image_id": image,
                        "category_id": kind,
                        "segmentation": from_mask.encode(np.asfortranarray(mask, dtype=np.uint8)),
                        "area": int(mask.sum()),
                        **({"score": score} if into is answers else {}),
                    }
                )
    return coco_figures(truths, answers, "segm", len(samples), **options)


def best_overlap(samples: Sequence[Sample], smallest: int = 0) -> float:
    """Mean over classes of the mean best IoU, in %, by loops."""
    best: dict[int, list[float]] = {}
    for answer, truth, valid, meta in samples:
        usable = valid.numpy().reshape(-1, W)
        answered = masks_of(answer, usable, meta.get("class_id", 0))
        for kind, _, true in masks_of(truth, usable, meta.get("class_id", 0)):
            if true.sum() >= smallest:
                ious = [(true & mask).sum() / (true | mask).sum() for other, _, mask in answered if other == kind]
                best.setdefault(kind, []).append(max(ious, default=0))
    return 100 * float(np.mean([np.mean(values) for values in best.values()]))


# ---------------------------------------------------------------- parity


def strip(*ids: float) -> Tensor:
    return torch.tensor(ids).reshape(1, 1, 1, -1)
