"""Rows: standard errors, repeated samples, two processes; metrics joined and by name."""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.metrics import (
    METRICS,
    DepthMetric,
    EdgeMetric,
    ForegroundMetric,
    InstanceMetric,
    JoinedMetric,
    PictureMetric,
    RestorationMetric,
    RowMetric,
    VideoMaskMetric,
    get_metric,
    networks,
)


class Given(RowMetric):
    """Its row is the answer."""

    names = ("first", "second")

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        return answer.flatten()


class Ratio(Given):
    """Pooled: the sum of one number over the sum of the other."""

    names = ("ratio",)
    width = 2

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        return {"ratio": rows[:, 0].nansum() / rows[:, 1].nansum()}


def random_rows() -> Tensor:
    rows = torch.rand(11, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.5
    rows[3, 0] = math.nan
    rows[6] = math.nan
    return rows


def feed(metric: RowMetric, rows: Tensor, samples: list[int]) -> RowMetric:
    nothing = torch.zeros(1)
    for sample in samples:
        metric.update(rows[sample], nothing, nothing.bool(), sample)
    return metric


def test_rows_are_reduced_and_carry_their_error() -> None:
    rows = random_rows()
    metric = feed(Given(), rows, [*range(10, -1, -1), 4, 4])
    torch.testing.assert_close(metric.unique_rows(), rows, equal_nan=True)
    for i, name in enumerate(Given.names):
        known = rows[:, i][~rows[:, i].isnan()].numpy()
        assert float(metric.compute()[name]) == pytest.approx(known.mean())
        assert float(metric.standard_error()[name]) == pytest.approx(known.std(ddof=1) / math.sqrt(len(known)))


def test_the_jackknife_agrees_with_the_closed_form_and_pools() -> None:
    rows = random_rows()
    rows = rows[~rows.isnan().any(dim=1)]
    ones = torch.stack([rows[:, 0], torch.ones(len(rows), dtype=torch.float64)], dim=1)
    mean = feed(Ratio(), ones, list(range(len(ones))))  # over ones a ratio of sums is a mean
    assert float(mean.standard_error()["ratio"]) == pytest.approx(float(rows[:, 0].std()) / math.sqrt(len(rows)))
    n = len(rows)
    left_out = np.array(
        [float(rows[torch.arange(n) != i].sum(0)[0] / rows[torch.arange(n) != i].sum(0)[1]) for i in range(n)]
    )
    expected = math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    assert float(feed(Ratio(), rows, list(range(n))).standard_error()["ratio"]) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("metric", [Given, Ratio])
def test_few_rows_have_no_error(metric: type[RowMetric]) -> None:
    m = metric()
    assert all(value.isnan() for value in m.compute().values())
    feed(m, random_rows(), [0])
    assert all(value.isfinite() for value in m.compute().values())
    assert all(value.isnan() for value in m.standard_error().values())
    m.reset()
    feed(m, random_rows(), [1])
    torch.testing.assert_close(m.unique_rows(), random_rows()[1:2])


def test_a_row_of_the_wrong_width_is_a_defect() -> None:
    with pytest.raises(ValueError, match="gave 3 numbers, not 2"):
        Given().update(torch.zeros(3), torch.zeros(1), torch.zeros(1).bool(), 0)


def exact_jackknife(metric: RowMetric, rows: Tensor) -> dict[str, float]:
    """Leaving out one sample at a time, as it is written in books; samples that leave it undefined do not count."""
    n = len(rows)
    without = [metric.reduce(rows[torch.arange(n) != i]) for i in range(n)]
    errors = {}
    for name in metric.names:
        values = np.array([float(figures[name]) for figures in without])
        errors[name] = math.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())
    return errors


@pytest.mark.parametrize("n", [2, 3, 31, 32])
def test_up_to_32_samples_are_left_out_one_by_one(n: int) -> None:
    rows = torch.rand(n, 2, generator=torch.Generator().manual_seed(n), dtype=torch.float64) + 0.1
    found = {name: float(value) for name, value in Ratio().standard_error_of(rows).items()}
    assert found == pytest.approx(exact_jackknife(Ratio(), rows), rel=1e-9)


class Sum(Ratio):
    """Pooled, and a mean all the same."""

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        return {"ratio": rows[:, 0].mean()}


@pytest.mark.parametrize("n", [33, 50, 200])
def test_groups_of_samples_are_unbiased(n: int) -> None:
    """Over many test sets: the variance by groups is on average that of the mean, and that by single samples."""
    g = torch.Generator().manual_seed(n)
    sets = torch.randn(300, n, 2, generator=g, dtype=torch.float64) ** 2 + 0.5
    mean = torch.stack([Sum().standard_error_of(rows)["ratio"] ** 2 for rows in sets])
    known = 2 / n  # the variance of a squared normal is 2
    assert abs(float(mean.mean()) - known) < 4 * float(mean.std()) / 300**0.5
    single = torch.tensor([exact_jackknife(Ratio(), rows)["ratio"] ** 2 for rows in sets[:40]], dtype=torch.float64)
    grouped = torch.stack([Ratio().standard_error_of(rows)["ratio"] ** 2 for rows in sets[:40]])
    assert abs(float((grouped - single).mean())) < 4 * float((grouped - single).std()) / 40**0.5
    assert not torch.allclose(grouped, single)


def test_groups_need_few_reductions_and_no_order() -> None:
    """Classes in a rhythm, or one after the other, must not fall together with the groups."""
    calls = []

    class Counted(Ratio):
        def reduce(self, rows: Tensor) -> dict[str, Tensor]:
            calls.append(len(rows))
            return super().reduce(rows)

    rows = torch.ones(640, 2, dtype=torch.float64)
    rows[:, 0] = torch.arange(640) % 32  # a rhythm as long as there are groups
    rhythm = float(Counted().standard_error_of(rows)["ratio"])
    assert calls == [620] * 32
    assert rhythm == pytest.approx(float(rows[:, 0].std()) / 640**0.5, rel=0.4)
    ordered = rows[rows[:, 0].argsort(stable=True)]
    assert float(Ratio().standard_error_of(ordered)["ratio"]) == pytest.approx(rhythm, rel=0.6)


def test_groups_have_one_size() -> None:
    """A figure that depends on the number of samples alone has no error, whatever does not divide by 32."""

    class Count(Ratio):
        def reduce(self, rows: Tensor) -> dict[str, Tensor]:
            return {"ratio": torch.tensor(100.0 / len(rows))}

    rows = torch.ones(75, 2, dtype=torch.float64)
    assert float(Count().standard_error_of(rows)["ratio"]) == pytest.approx(0, abs=1e-9)


def test_groups_that_leave_nothing_do_not_count() -> None:
    rows = torch.zeros(5, 2, dtype=torch.float64)
    rows[0] = 1.0  # only this one defines the ratio: without it there is none
    found = Ratio().standard_error_of(rows)["ratio"]
    assert float(found) == pytest.approx(0, abs=1e-12)
    assert Ratio().standard_error_of(rows[:2])["ratio"].isnan()


def test_scores_are_taken_in_full_precision() -> None:
    """A test that runs in bf16 does not blunt the metric's own convolutions."""
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 1, 24, 24, generator=g)
    answer = (truth + 0.1 * torch.rand(truth.shape, generator=g)).clamp(0, 1)
    found = []
    for enabled in (False, True):
        metric = RestorationMetric()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            metric.update(answer, truth, torch.ones(1, 1, 24, 24).bool(), 0)
        found.append(metric.compute())
    assert found[0] == found[1]


# ---------------------------------------------------------------- joined, and by name


def joined() -> JoinedMetric:
    return JoinedMetric(VideoMaskMetric(), InstanceMetric(max_instances=4), ForegroundMetric())


def id_maps(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 3, (2, 1, 2, 4, 4), generator=g).float()
    coarse[0] = torch.where(torch.rand(coarse[0].shape, generator=g) < 0.7, coarse[1], coarse[0])
    answer, truth = coarse.repeat_interleave(3, -1).repeat_interleave(3, -2)
    return answer, truth, torch.ones(1, 2, 12, 12).bool()


def feed_maps(metric: RowMetric, samples: Sequence[int]) -> RowMetric:
    for sample in samples:
        answer, truth, valid = id_maps(sample)
        metric.update(answer, truth, valid & (sample != 3), sample, {"class_id": sample % 2})
    return metric


def test_joined_metrics_score_as_they_do_alone() -> None:
    metric, samples = joined(), [4, 0, 1, 2, 3, 4, 0]
    assert metric.names == ("j_and_f", "j", "f", "ap", "ap50", "ap75", "mbo", "miou")
    assert metric.units == ("%",) * 8
    assert metric.ideals == (100.0,) * 8
    feed_maps(metric, samples)
    alone = [feed_maps(part, samples) for part in joined().parts]
    assert metric.compute() == {name: value for part in alone for name, value in part.compute().items()}
    errors = {name: value for part in alone for name, value in part.standard_error().items()}
    torch.testing.assert_close(metric.standard_error(), errors, rtol=0, atol=0)
    assert metric.unique_rows().shape == (5, 3 + 25 + 3)
    assert all(0 < float(metric.compute()[name]) < 100 for name in ("j", "f", "ap75", "mbo", "miou"))
    assert not any(part.rows for part in metric.parts)
    again = copy.deepcopy(metric)
    metric.reset()
    assert feed_maps(metric, samples).compute() == again.compute()


def test_joined_means_keep_their_closed_form() -> None:
    rows = random_rows()
    metric = feed(JoinedMetric(Given(), Ratio()), torch.cat([rows[:, :1]] * 2, dim=1), [])
    both = torch.cat([rows, rows.nan_to_num(nan=1.0)], dim=1)
    found = metric.standard_error_of(both)
    expected = Given().standard_error_of(rows) | Ratio().standard_error_of(both[:, 2:])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_joined_metrics_of_nothing() -> None:
    assert all(value.isnan() for value in joined().compute().values())
    assert all(value.isnan() for value in joined().standard_error().values())
    with pytest.raises(LavinditError, match="two of the joined metrics measure 'mse'"):
        JoinedMetric(RestorationMetric(), EdgeMetric())
    with pytest.raises(LavinditError, match="at least one"):
        JoinedMetric()


def test_metrics_by_name() -> None:
    assert isinstance(get_metric("depth"), DepthMetric)
    assert get_metric("restoration", figures=["mse"]).names == ("mse",)
    for name in METRICS:
        if name not in ("panoptic", "perceptual", "perceptual_proxy", "distribution"):
            metric = get_metric(name)
            assert len(metric.names) == len(metric.units) == len(metric.ideals) > 0
    assert get_metric("panoptic", things=[1, 2]).names == ("pq", "sq", "rq")


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("depht", {}, "no metric is called 'depht'; did you mean 'depth'?"),
        ("zzz", {}, "no metric is called 'zzz'; there is boxes, depth, "),
        ("panoptic", {}, "metric 'panoptic' needs the option 'things'"),
        ("panoptic", {"thing": [1]}, "metric 'panoptic' has no option 'thing'; did you mean 'things'?"),
        ("depth", {"near": 1}, "metric 'depth' has no option 'near'; it has none"),
        ("panoptic", {"things": []}, "metric 'panoptic' cannot take {'things': \\[\\]}: things"),
        ("panoptic", {"things": 3}, "metric 'panoptic' cannot take {'things': 3}"),
        ("pictures", {"figures": ["mes"]}, "no figure is called 'mes'; did you mean 'mse'?"),
    ],
)
def test_names_and_options_that_do_not_exist(name: str, options: dict[str, Any], line: str) -> None:
    with pytest.raises(LavinditError, match=line):
        get_metric(name, **options)


# ---------------------------------------------------------------- two processes


class Colours(nn.Module):
    """Stands for Inception: the mean colour of a picture, and as many zeros as it takes."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x.double().mean(dim=(2, 3)) / 255, (0, 2045))


def feed_pictures(samples: Sequence[int]) -> RowMetric:
    with patch.object(networks, "load", lambda *_: Colours()), patch.object(networks, "available", lambda _: True):
        metric = PictureMetric(("psnr", "fid", "kid"))
        for sample in samples:
            answer, truth = torch.rand(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(sample))
            metric.update(answer, truth, torch.ones(1, 1, 4, 4).bool(), sample)
    return metric


def score_in_process(rank: int, folder: str) -> None:
    """Half of the samples, one of them twice; then a metric that only process 1 fed."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    rows = random_rows()
    mine = [0, 2, 4, 6, 8, 10] if rank == 0 else [1, 3, 5, 7, 9, 0]
    even = {kind.__name__: feed(kind(), rows, mine) for kind in (Given, Ratio)}
    fed: dict[str, RowMetric] = {
        **even,
        "lone": feed(Given(), rows, [5, 2, 5] if rank == 1 else []),
        "joined": feed_maps(joined(), mine),
        "pictures": feed_pictures(mine),
        "lone pictures": feed_pictures([4, 1] if rank == 1 else []),
    }
    results = {name: (m.compute(), m.unique_rows(), m.standard_error()) for name, m in fed.items()}
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    import torch.multiprocessing as mp

    mp.spawn(score_in_process, args=(str(tmp_path),), nprocs=2)
    rows = random_rows()
    expected = {kind.__name__: feed(kind(), rows, list(range(11))) for kind in (Given, Ratio)}
    expected["lone"] = feed(Given(), rows, [2, 5])
    expected |= {"joined": feed_maps(joined(), range(11)), "pictures": feed_pictures(range(11))}
    expected["lone pictures"] = feed_pictures([1, 4])
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, metric in expected.items():
            one = (metric.compute(), metric.unique_rows(), metric.standard_error())
            torch.testing.assert_close(found[name], one, rtol=0, atol=0, equal_nan=True)


def test_the_error_of_a_difference_is_that_of_the_paired_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(24, 2, generator=generator, dtype=torch.float64)  # easy and hard samples
    one, again, other = (common + 0.1 * torch.randn(24, 2, generator=generator).double() for _ in range(3))
    metric = Given()
    found = float(metric.error_of_difference([one], [other])["second"])
    assert found == pytest.approx(float((one - other)[:, 1].std() / 24**0.5), rel=1e-9)
    apart = math.hypot(*(float(metric.standard_error_of(rows)["second"]) for rows in (one, other)))
    assert found < 0.3 * apart
    drawn = float(metric.error_of_difference([one, again], [other, other])["first"])
    assert drawn == pytest.approx(float(((one + again) / 2 - other)[:, 0].std() / 24**0.5), rel=1e-9)
    assert metric.error_of_difference([one[:1]], [other[:1]])["first"].isnan()
