"""Masks of COCO against its own mask API, to the pixel."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as api

from lavindit.data.readers.masks import polygon_mask, segmentation_mask, unpack_runs


def mask_of_api(segmentation: Any, height: int, width: int) -> np.ndarray:
    runs = api.frPyObjects(segmentation, height, width)
    return api.decode(api.merge(runs) if isinstance(runs, list) else runs).astype(bool)


@pytest.mark.parametrize(
    ("low", "high", "grid"),
    [
        pytest.param(-5, 45, 0, id="across the border"),
        pytest.param(0, 1, 0, id="smaller than a pixel"),
        pytest.param(-60, 100, 1, id="far outside, whole numbers"),
        pytest.param(-3, 30, 2, id="halves"),
    ],
)
def test_random_polygons(low: float, high: float, grid: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(300):
        height, width, corners = (int(size) for size in generator.integers((1, 1, 3), (40, 40, 9)))
        polygon = generator.uniform(low, high, 2 * corners)
        polygon = np.round(polygon * grid) / grid if grid else polygon
        if number % 3 == 0:
            polygon[2:4] = polygon[:2]  # a corner that is there twice
        expected = mask_of_api([polygon.tolist()], height, width)
        assert np.array_equal(polygon_mask(polygon, height, width), expected), (height, width, polygon.tolist())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999, 1.0])
def test_run_lengths(share: float) -> None:
    mask = np.random.default_rng(0).random((301, 200)) < share
    packed: dict[str, Any] = dict(api.encode(np.asfortranarray(mask.astype(np.uint8))))
    for counts in (packed["counts"], packed["counts"].decode()):
        assert np.array_equal(segmentation_mask({"size": [301, 200], "counts": counts}, 301, 200), mask)
    runs = unpack_runs(packed["counts"]).tolist()
    again = api.frPyObjects({"size": [301, 200], "counts": runs}, 301, 200)
    assert again["counts"] == packed["counts"]
    assert np.array_equal(segmentation_mask({"size": [301, 200], "counts": runs}, 301, 200), mask)


@pytest.mark.parametrize("kind", ["instances", "person_keypoints"])
def test_published_annotations(kind: str, test_data: Path) -> None:
    data = json.loads((test_data / "data/coco/annotations" / f"{kind}_train2017.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    crowds = [entry for entry in data["annotations"] if entry["iscrowd"]]
    assert crowds
    for entry in data["annotations"][::3] + crowds:
        size = sizes[entry["image_id"]]
        expected = mask_of_api(entry["segmentation"], *size)
        assert np.array_equal(segmentation_mask(entry["segmentation"], *size), expected), entry["id"]
        packed = api.encode(np.asfortranarray(expected.astype(np.uint8)))
        assert np.array_equal(segmentation_mask({**packed, "size": list(size)}, *size), expected), entry["id"]
