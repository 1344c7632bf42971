"""Baselines by hand: what one would answer without a model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lavindit.codecs import IdentityCodec
from lavindit.data import EpisodeMaker, SourceConfig
from lavindit.data.degradations import parameters_of
from lavindit.data.degradations.motion import motion_blur
from lavindit.data.degradations.rain import LAYERS, rain
from lavindit.errors import LavinditError
from lavindit.flow import seeded_noise
from lavindit.inference import TaskScorer
from lavindit.inference.baselines import BASELINES, best_constant, constant_pictures, mean_fill
from lavindit.pictures import save_picture
from lavindit.report.figure import BEST_CONSTANT, FURTHER_BASELINES, MEAN_FILL, QUERY_VAE
from lavindit.task import Task, all_tasks, get_task
from lavindit.types import Episode, Pair

SMALL = SourceConfig(resolution=32, scenes=24, test_scenes=12, clips=4, test_clips=4)


def restoration(query: torch.Tensor, target: torch.Tensor) -> Episode:
    valid = torch.ones_like(target[:1], dtype=torch.bool)
    return Episode("inpainting", "a", (), Pair(query, target, target, valid), IdentityCodec())


class TestMeanFill:
    def test_is_the_mean_of_what_is_visible(self) -> None:
        target = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        query = target.clone()
        query[:, :, 2:6, 2:6] = 0.5
        filled = mean_fill(restoration(query, target))
        assert filled is not None
        hole = torch.zeros(8, 8, dtype=torch.bool)
        hole[2:6, 2:6] = True
        assert torch.equal(filled[:, 0][:, ~hole], target[:, 0][:, ~hole])
        for channel in range(3):
            torch.testing.assert_close(filled[channel, 0][hole], target[channel, 0][~hole].mean().expand(16))

    def test_with_nothing_hidden_or_nothing_visible_the_query_stays(self) -> None:
        target = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        for query in (target, 1 - target):
            filled = mean_fill(restoration(query, target))
            assert filled is not None
            assert torch.equal(filled, query)

    def test_finds_the_hole_of_the_task(self) -> None:
        episode = EpisodeMaker(get_task("inpainting"), "test", SMALL).episode(0, 1, seed=0)
        filled = mean_fill(episode)
        assert filled is not None
        assert float((filled != episode.query.input).any(0).float().mean()) == pytest.approx(0.25, abs=0.01)


class TestBestConstant:
    def test_pictures_by_hand(self) -> None:
        targets = [torch.full((3, 1, 2, 2), value) for value in (0.0, 0.1, 0.9)]
        targets[2][0] = 0.3
        found = constant_pictures(targets)
        assert float(found["black"].max()) == 0
        assert float(found["white"].min()) == 1
        assert float(found["mid-gray"].mean()) == 0.5
        torch.testing.assert_close(found["the mean colour"][:, 0, 0, 0], torch.tensor([0.4 / 3, 1 / 3, 1 / 3]))
        torch.testing.assert_close(found["the mean of each pixel"], torch.stack(targets).mean(0))
        assert float(found["the median of each pixel"].mean()) == pytest.approx(0.1)

    def test_is_the_best_on_training_targets_and_knows_no_test(self, tmp_path: Path) -> None:
        """A folder of two answers: dark ones in training, bright ones in the test."""
        for number in range(5):
            save_picture(torch.rand(3, 1, 32, 32), tmp_path / f"{number}_input.png")
            save_picture(torch.full((3, 1, 32, 32), 0.2), tmp_path / f"{number}_target.png")
        save_picture(torch.rand(3, 1, 32, 32), tmp_path / "test" / "0_input.png")
        save_picture(torch.full((3, 1, 32, 32), 0.8), tmp_path / "test" / "0_target.png")
        constant = best_constant(get_task(tmp_path), SMALL)
        assert constant.targets == 5
        assert constant.name == "the mean colour"  # the first of those that are exact
        torch.testing.assert_close(constant.picture, torch.full((3, 1, 32, 32), 51 / 255))

    def test_no_motion_is_a_candidate_for_flow(self) -> None:
        task = get_task("optical_flow_estimation")
        constant = best_constant(task, SMALL)
        assert constant.targets == 4
        assert constant.picture.shape == (3, 13, 32, 32)
        metric, zero = task.make_metric(), task.make_metric()
        maker = EpisodeMaker(task, "train", SMALL)
        for number in range(4):
            episode = maker.episode(number, 0, seed=0)
            truth = (episode.query.native, episode.query.valid, number)
            metric.update(episode.codec.decode(constant.picture), *truth)
            zero.update(torch.zeros_like(episode.query.native), *truth)
        assert float(metric.compute()["epe"]) <= float(zero.compute()["epe"]) + 1e-4

    @pytest.mark.parametrize("name", ["instance_segmentation", "pose_estimation", "foreground_segmentation"])
    def test_is_scored_with_the_codec_of_each_episode(self, name: str) -> None:
        task = get_task(name)
        maker = EpisodeMaker(task, "test", SMALL)
        constant = best_constant(task, SMALL)
        scorer = TaskScorer(task, with_ceiling=False, find_constant=lambda: constant)
        by_hand = task.make_metric()
        for number, scene in enumerate(maker.accepted(3)):
            episode = maker.episode(scene, 2, seed=0, number=number)
            scorer.update(episode, episode.query.target, None, 0.0)
            query = episode.query
            by_hand.update(episode.codec.decode(constant.picture), query.native, query.valid, number, query.meta)
        figure = scorer.result().headline
        assert figure.baselines[BEST_CONSTANT] == pytest.approx(float(by_hand.compute()[figure.metric]))
        assert str(constant) == scorer.result().constant

    def test_is_found_once_and_when_it_is_needed(self) -> None:
        calls: list[int] = []
        task = get_task("edge_detection")

        def find():
            calls.append(1)
            return best_constant(task, SMALL)

        scorer = TaskScorer(task, with_ceiling=False, draws=2, find_constant=find)
        assert not calls
        maker = EpisodeMaker(task, "test", SMALL)
        for draw in range(2):
            episode = maker.episode(0, 1, seed=0, draw=draw)
            scorer.update(episode, episode.query.target, None, 0.0)
        assert len(calls) == 1
        assert BEST_CONSTANT not in TaskScorer(task).baselines


def test_what_the_query_shows_is_kept_by_all_that_is_scored() -> None:
    task = get_task("inpainting")
    episode = EpisodeMaker(task, "test", SMALL).episode(0, 1, seed=0)
    query = episode.query
    hidden = (query.input != query.target).any(0, keepdim=True)
    right_in_the_hole = torch.where(hidden, query.target, 1 - query.target)
    scorer = TaskScorer(task)
    scorer.update(episode, right_in_the_hole, 1 - query.target, 0.0)
    error = float(torch.where(hidden, 1 - 2 * query.target, 0.0).square().mean())
    copied = torch.where(hidden, episode.pairs[0].target, query.target)
    mse = next(figure for figure in scorer.result().figures if figure.metric == "mse")
    assert mse.answer == 0
    assert mse.ceiling == pytest.approx(error, rel=1e-5)
    assert mse.baselines["nearest_target"] == pytest.approx(float((copied - query.target).square().mean()), rel=1e-5)


class TestFurther:
    def test_are_those_that_a_task_names(self) -> None:
        named = {name: task.baselines for name, task in all_tasks().items() if task.baselines}
        for task in ("deraining", "glass_deblurring", "motion_deblurring"):
            assert named[task] == (QUERY_VAE,)
        assert named["inpainting"] == (MEAN_FILL,)
        assert {name for names in named.values() for name in names} <= set(FURTHER_BASELINES)

    def test_an_unknown_one_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        task = get_task("deraining")
        monkeypatch.setattr(type(task), "baselines", ("query_vea",))
        with pytest.raises(LavinditError, match=r"names the baseline .query_vea.; there are query_vae, mean_fill"):
            TaskScorer(task)

    def test_the_query_through_the_vae_is_scored_once_a_query(self) -> None:
        task = get_task("deraining")
        maker, scorer = EpisodeMaker(task, "test", SMALL), TaskScorer(task, draws=2)
        by_hand = []
        for draw in range(2):
            for number in range(2):
                episode = maker.episode(number, 1, seed=0, draw=draw)
                rebuilt = (episode.query.input * 0.9) if draw == 0 else None
                scorer.update(episode, episode.query.target, rebuilt, 0.0, rebuilt)
                if rebuilt is not None:
                    by_hand.append(float((rebuilt - episode.query.target).square().mean()))
        figures = {figure.metric: figure for figure in scorer.result().figures}
        assert figures["mse"].baselines[QUERY_VAE] == pytest.approx(sum(by_hand) / 2, rel=1e-5)
        assert QUERY_VAE not in BASELINES

    def test_parameters_are_the_defaults_of_the_code(self) -> None:
        said = parameters_of(rain)
        assert said["layers"]["3"]["length_px"] == LAYERS[2].length_px
        assert said["reference_side_px"] == 64
        assert get_task("motion_deblurring").parameters["length_px"] == list(motion_blur.__defaults__[0])  # type: ignore
        assert TaskScorer(get_task("inpainting")).task.parameters["share"] == 0.5


def test_another_draw_asks_with_other_pairs_and_other_noise() -> None:
    task: Task = get_task("colorization")
    maker = EpisodeMaker(task, "test", SMALL)
    first, second = (maker.episode(0, 2, seed=0, draw=draw) for draw in range(2))
    assert torch.equal(first.query.input, second.query.input)
    assert not torch.equal(first.pairs[0].input, second.pairs[0].input)
    noises = [seeded_noise([episode.sample_id], (4,), seed=0) for episode in (first, second)]
    assert not torch.equal(*noises)
    same = replace(second, pairs=first.pairs)  # whatever the pairs are
    assert torch.equal(seeded_noise([same.sample_id], (4,), seed=0), noises[1])
