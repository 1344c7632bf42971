"""Instance metrics: cases whose figures are counted by hand, and in two processes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from instance_samples import H, W, blobs, everywhere, feed, figures, random_samples, strip
from lavindit.metrics import BoxMetric, InstanceMetric, KeypointMetric, PanopticMetric, RowMetric, VideoMaskMetric
from lavindit.metrics import functional as MF

# pycocotools and scipy are imported where they are used: the spawned processes import this file too.


def test_by_hand() -> None:
    truth = strip(1, 1, 1, 1, 0, 0, 2, 2, 2, 2)
    answer = strip(5, 5, 5, 0, 0, 9, 0, 0, 3, 3)  # IoU 3/4, none, 2/4; ranked in this order, but 3 before 9
    found = figures(InstanceMetric(), (answer, truth, everywhere(truth)))
    # Right at 0.50 .. 0.75 (6 of 10 thresholds): the first; at 0.50 the other as well, ranked second.
    half = 51 / 101  # recalls 0 .. 0.5 are reached at full precision
    assert found["ap50"] == pytest.approx(100)
    assert found["ap75"] == pytest.approx(100 * half)
    assert found["ap"] == pytest.approx(100 * (1 + 5 * half) / 10)
    assert found["mbo"] == pytest.approx(100 * (3 / 4 + 2 / 4) / 2)
    last = strip(5, 5, 5, 0, 9, 9, 9, 9, 3, 3)  # now a false one comes first: IoU of 9 and 2 is 2/6
    found = figures(InstanceMetric(), (last, truth, everywhere(truth)))
    assert found["ap50"] == pytest.approx(100 * 2 / 3)
    assert found["ap75"] == pytest.approx(100 * half / 2)


def test_an_id_is_one_instance_over_the_clip() -> None:
    """Two objects for four frames. An answer that exchanges their ids half-way has the right masks, and half an IoU."""
    frame = torch.tensor([1.0, 1, 0, 2, 2]).reshape(1, 1, 1, 5)
    truth = frame.repeat(1, 4, 1, 1)
    swapped = truth.clone()
    swapped[:, 2:] = torch.where(truth[:, 2:] > 0, 3 - truth[:, 2:], 0.0)
    valid = everywhere(truth)
    assert set(figures(InstanceMetric(), (truth, truth, valid)).values()) == {100}
    found = figures(InstanceMetric(), (swapped, truth, valid))  # 4 of 12 pixels: in two frames of four
    assert (found["ap50"], found["mbo"]) == pytest.approx((0, 100 / 3))
    late = truth.clone()
    late[:, :1] = 0  # both missed in the first frame: IoU 3/4, right at 0.50 .. 0.75
    assert figures(InstanceMetric(), (late, truth, valid)) == pytest.approx(
        {"ap": 60, "ap50": 100, "ap75": 100, "mbo": 75}
    )


def test_an_answer_serves_one_truth_of_its_class() -> None:
    truth = strip(1, 1, 1, 1, 1, 1)
    split = strip(1, 1, 1, 2, 2, 2)  # both have an IoU of 0.5, and only one may match
    found = figures(InstanceMetric(), (split, truth, everywhere(truth)))
    assert (found["ap50"], found["ap75"]) == pytest.approx((100, 0))
    other = torch.cat([torch.ones_like(truth), truth])
    zero = torch.cat([torch.zeros_like(truth), truth])
    assert figures(InstanceMetric(), (zero, other, everywhere(truth)))["ap"] == 0
    assert figures(InstanceMetric(by_class=False), (zero, other, everywhere(truth)))["ap"] == pytest.approx(100)


def test_matching_by_hand() -> None:
    overlap = torch.tensor([[0.6, 0.6, 0.9], [0.0, 0.55, 0.7], [0.6, 0.0, 0.0]], dtype=torch.float64)
    hits, aside = MF.match_detections(overlap, torch.tensor([3.0, 2.0, 1.0]), torch.tensor([False, False, True]))
    # The first prefers a truth that counts, of equals the last; the second is left with the ignored one above 0.5.
    assert hits[:, 0].tolist() == [True, False, True]
    assert aside[:, 0].tolist() == [False, True, False]
    assert aside[0].tolist() == [False] * 3 + [True] * 6 + [False]
    for shape in ((0, 3), (3, 0), (0, 0)):
        hits, aside = MF.match_detections(torch.zeros(shape), torch.zeros(shape[0]))
        assert hits.shape == aside.shape == (shape[0], 10)
        assert not hits.any()


# ---------------------------------------------------------------- degenerate


def test_empty_pictures() -> None:
    truth, empty = blobs(0), torch.zeros(1, 1, H, W)
    valid = everywhere(truth)
    assert set(figures(InstanceMetric(), (empty, truth, valid)).values()) == {0}
    for metric in (InstanceMetric(), BoxMetric()):
        for answer in (empty, truth, torch.full_like(empty, math.nan)):
            assert all(math.isnan(value) for value in figures(metric, (answer, empty, valid)).values())
            metric.reset()
    # a false instance in an empty picture counts against the others
    both = figures(InstanceMetric(), (truth, truth, valid, {}), (torch.ones(1, 1, H, W), empty, valid, {}))
    assert both["ap"] < 100
    assert both["mbo"] == pytest.approx(100)
    one = torch.ones_like(truth)
    assert list(figures(InstanceMetric(), (one, one, valid)).values()) == pytest.approx([100] * 4)


def test_answers_that_are_not_numbers() -> None:
    truth = blobs(1)
    valid = everywhere(truth)
    perfect = figures(InstanceMetric(), (truth, truth, valid))
    assert list(perfect.values()) == pytest.approx(list(InstanceMetric.ideals))
    for bad in (math.nan, math.inf, -math.inf):
        some = truth.clone()
        some[:, :, :1, :20] = bad
        partly = figures(InstanceMetric(), (some, truth, valid))
        wholly = figures(InstanceMetric(), (torch.full_like(truth, bad), truth, valid))
        for name, ideal in perfect.items():
            assert 0 < partly[name] <= ideal
            assert wholly[name] == 0
        assert partly["ap"] < 100
        assert partly["mbo"] < 100
        background = torch.where(truth == 0, bad, truth)  # every instance is right, the rest is no answer
        assert figures(InstanceMetric(), (background, truth, valid))["mbo"] < 100
        opposite = MF.mask_iou(
            MF.find_instances(background, valid[0]), MF.find_instances(truth, valid[0]), background.isinf().flatten()
        )
        if bad == math.inf:
            areas = MF.find_instances(truth, valid[0]).areas_px
            assert torch.allclose(opposite.diagonal(), areas / (areas + (truth == 0).sum()))


def test_a_pixel_without_an_answer_is_in_every_union() -> None:
    truth = strip(1, 1, 1, 1, 2, 2, 2, 2, 0, 0)
    answer = strip(5, 5, 5, math.nan, 6, 6, 6, 6, math.nan, 0)  # unions of 4 + 1 and 4 + 2
    found = figures(InstanceMetric(), (answer, truth, everywhere(truth)))
    assert found["mbo"] == pytest.approx(100 * (3 / 5 + 4 / 6) / 2)


def test_what_is_not_valid_is_not_there() -> None:
    answer, truth, valid, _ = random_samples(3)[0]
    nothing = torch.zeros_like(valid)
    expected = figures(InstanceMetric(), (answer, truth, valid))
    assert figures(InstanceMetric(), (answer, torch.where(valid, truth, math.nan), valid)) == expected
    assert figures(InstanceMetric(), (answer, torch.where(valid, truth, math.nan), everywhere(truth))) == expected
    assert figures(InstanceMetric(), (torch.where(valid, answer, 3.0), truth, valid)) == expected
    assert all(math.isnan(value) for value in figures(InstanceMetric(), (answer, truth, nothing)).values())
    metric = InstanceMetric()
    assert figures(metric, (answer, truth, valid), (answer, truth, nothing)) == expected
    assert len(metric.unique_rows()) == 2
    assert all(value.isnan() for value in metric.standard_error().values())


def test_a_sample_counts_once() -> None:
    samples = random_samples(4)
    metric = feed(InstanceMetric(), samples, [3, 1, 4, 0, 2, 4, 4, 1])
    assert {k: float(v) for k, v in metric.compute().items()} == figures(InstanceMetric(), *samples)
    assert all(0 < float(value) < 50 for value in metric.standard_error().values())


# ---------------------------------------------------------------- two processes


def poses_of(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    truth = torch.cat([50 * torch.rand(3, 17, 1, 2, generator=g), torch.full((3, 17, 1, 1), 2.0)], dim=-1)
    return truth + torch.randn(truth.shape, generator=g).clamp(-1, 1), truth, torch.ones(1, 1, 8, 8).bool()


def fed_everywhere(numbers: Sequence[int]) -> Mapping[str, RowMetric]:
    masks = random_samples(5, 4)
    maps = random_samples(5, 4, by_class=True)
    poses = [poses_of(seed) for seed in range(4)]
    return {
        "panoptic": feed(PanopticMetric((0, 1), (2,)), maps, numbers),
        "instances": feed(InstanceMetric(max_instances=30), maps, numbers),
        "boxes": feed(BoxMetric(), masks, numbers),
        "keypoints": feed(KeypointMetric(), poses, numbers),
        "videos": feed(VideoMaskMetric(), masks, numbers),
    }


def score_in_process(rank: int, folder: str) -> None:
    """Even samples, or the odd ones and two that the other has; then the same with an idle process."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    results = []
    for numbers in ([[0, 2], [1, 3, 0, 2]][rank], [[], [0, 1, 2, 3]][rank]):
        fed = fed_everywhere(numbers)
        results.append({name: (m.compute(), m.unique_rows(), m.standard_error()) for name, m in fed.items()})
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    import torch.multiprocessing as mp

    mp.spawn(score_in_process, args=(str(tmp_path),), nprocs=2)
    expected = {
        name: (m.compute(), m.unique_rows(), m.standard_error()) for name, m in fed_everywhere(range(4)).items()
    }
    for rank in range(2):
        for found in torch.load(tmp_path / f"{rank}.pt"):
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
