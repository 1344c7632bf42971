"""The report of a VAE: what is scored, what it is compared with, and what the pages say."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from lavindit.data import EpisodeData, SourceConfig
from lavindit.data.episodes import EpisodeMaker
from lavindit.errors import LavinditError
from lavindit.inference.block_pca import BlockMoments, BlockPCA
from lavindit.metrics import InstanceQualityMetric, TemporalMetric
from lavindit.report import write_report
from lavindit.report.figure import CODEC, PCA_MIXTURE, PCA_OWN, Figure
from lavindit.report.latent_cost import describe_latent_cost, tables_of
from lavindit.report.schema import ModalityResult, RunResult, read_result
from lavindit.report.terminal import print_result
from lavindit.task import get_task
from lavindit.training.vae_pictures import Kind, fit_baselines, kinds_of
from lavindit.training.vae_scorers import CodecScorer, ModalityScorer
from lavindit.types import Episode

SOURCE = SourceConfig(resolution=32, scenes=8, test_scenes=8, clips=2, test_clips=2)


def episode_of(task: str, number: int = 0, split: str = "test") -> Episode:
    maker = EpisodeMaker(get_task(task), split, SOURCE)
    return maker.episode(maker.accepted(number + 1)[number], 0, seed=0, number=number)


def noisy(picture: Tensor, amount: float = 0.1) -> Tensor:
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    return (picture + amount * noise).clamp(0, 1)


def figures_of(result: ModalityResult) -> dict[str, Figure]:
    return {figure.metric: figure for figure in result.figures}


class TestMetrics:
    def test_change_from_frame_to_frame_by_hand(self) -> None:
        truth = torch.rand(3, 5, 8, 8, generator=torch.Generator().manual_seed(0)) / 2
        everywhere = torch.ones(1, 5, 8, 8, dtype=torch.bool)
        metric = TemporalMetric()
        metric.update(truth + 0.25, truth, everywhere, 0)  # stands still
        assert float(metric.compute()["dt_rmse"]) == pytest.approx(0, abs=1e-4)
        flicker = truth + 0.1 * torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0])[:, None, None]
        metric.update(flicker, truth, everywhere, 1)
        assert float(metric.compute()["dt_rmse"]) == pytest.approx(25.5 / 2, rel=1e-5)
        half = everywhere.clone()
        half[:, 1::2] = False  # no pixel is valid in two successive frames
        metric.update(flicker, truth, half, 2)
        metric.update(truth[:, :1], truth[:, :1], everywhere[:, :1], 3)
        assert float(metric.compute()["dt_rmse"]) == pytest.approx(25.5 / 2, rel=1e-5)
        assert metric.unique_rows().isnan().flatten().tolist() == [False, False, True, True]

    def test_quality_of_instances_by_hand(self) -> None:
        truth = torch.zeros(1, 1, 8, 8)
        truth[..., :4, :4], truth[..., 4:, 4:] = 1, 2
        everywhere, metric = torch.ones_like(truth, dtype=torch.bool), InstanceQualityMetric()
        metric.update(truth, truth, everywhere, 0)
        assert metric.compute() == {"pq": 100, "sq": 100, "rq": 100}
        answer = truth.clone()
        answer[..., 3, :4], answer[..., 4:, 4:] = 0, 0  # the first loses a quarter, the second is missed
        metric.update(answer, truth, everywhere, 1)
        found = {name: float(value) for name, value in metric.compute().items()}
        assert found == pytest.approx({"pq": 100 * 2.75 / 3.5, "sq": 100 * 2.75 / 3, "rq": 100 * 3 / 3.5})


class TestKinds:
    @pytest.mark.parametrize(
        ("task", "kinds"),
        [
            ("depth_estimation", ["depth", "rgb"]),
            ("edge_detection", ["edges", "rgb"]),
            ("foreground_segmentation", ["masks", "rgb"]),
            ("object_detection", ["palettes", "rgb"]),
            ("panoptic_segmentation", ["palettes", "rgb"]),
            ("pose_estimation", ["skeletons", "rgb"]),
            ("deraining", ["rgb", "input of deraining"]),
            ("depth_to_image", ["rgb"]),  # its input is the target of depth_estimation
        ],
    )
    def test_pictures_of_a_task(self, task: str, kinds: list[str]) -> None:
        found = kinds_of(get_task(task), episode_of(task))
        assert [kind.modality for kind, _ in found] == kinds
        assert all(kind.frames == picture.shape[1] == 1 for kind, picture in found)

    def test_clips_stand_apart(self) -> None:
        found = kinds_of(get_task("optical_flow_estimation"), episode_of("optical_flow_estimation"))
        assert [kind for kind, _ in found] == [Kind(13, "flow"), Kind(13, "rgb")]
        order = sorted([Kind(13, "rgb"), Kind(1, "input of x"), Kind(1, "depth"), Kind(1, "rgb")], key=lambda k: k.rank)
        assert order == [Kind(1, "rgb"), Kind(1, "depth"), Kind(1, "input of x"), Kind(13, "rgb")]


class TestBaselines:
    def test_mixture_and_own(self) -> None:
        tasks = ["depth_estimation", "normal_estimation", "foreground_segmentation"]
        data = EpisodeData(tasks, weights={"normal_estimation": 0.0}, source=SOURCE)
        found = fit_baselines(data, components=4, pictures=24)
        assert found.pictures == 24
        assert found.tasks == ["depth_estimation", "normal_estimation"]
        own = {"depth", "normals", "masks", "rgb"}
        assert {kind.modality for kind in found.own} == own
        # Held out or of weight 0: no part of the mixture, which is then depth estimation's pictures alone.
        maker = EpisodeMaker(get_task("depth_estimation"), "train", SOURCE)
        pairs = [maker.episode(scene, 0, seed=0).query for scene in range(4)]
        blocks = sum((BlockMoments.of(p) for pair in pairs for p in (pair.input, pair.target)), BlockMoments.none())
        expected = BlockPCA.fit(blocks, 4)
        assert found.mixture is not None
        torch.testing.assert_close(found.mixture.mean, expected.mean)
        picture = pairs[0].input
        torch.testing.assert_close(found.mixture.reconstruct(picture), expected.reconstruct(picture))
        depth = sum((BlockMoments.of(pair.target) for pair in pairs), BlockMoments.none())
        torch.testing.assert_close(found.own[Kind(1, "depth")].mean, depth.total / depth.count)

    def test_a_clip_weighs_as_one_picture(self) -> None:
        data = EpisodeData(["depth_estimation", "video_depth_estimation"], source=SOURCE)
        found = fit_baselines(data, components=4, pictures=4)
        still = EpisodeMaker(get_task("depth_estimation"), "train", SOURCE).episode(0, 0, seed=0).query
        clip = EpisodeMaker(get_task("video_depth_estimation"), "train", SOURCE).episode(1, 0, seed=0).query
        means = [p.mean() for pair in (still, clip) for p in (pair.input.double(), pair.target.double())]
        assert found.mixture is not None
        assert float(found.mixture.mean.mean()) == pytest.approx(float(torch.stack(means).mean()), rel=1e-6)

    def test_only_held_out_tasks_have_no_mixture(self) -> None:
        found = fit_baselines(EpisodeData(["foreground_segmentation"], source=SOURCE), 4, 4)
        assert found.mixture is None
        assert Kind(1, "masks") in found.own


class TestScorers:
    def scorer(self, frames: int = 1) -> ModalityScorer:
        g = torch.Generator().manual_seed(0)
        pca = [BlockPCA.fit(BlockMoments.of(torch.rand(3, 1, 64, 64, generator=g)), 16) for _ in range(2)]
        return ModalityScorer(Kind(frames, "rgb"), *pca, with_fid=False)

    def test_a_perfect_vae(self) -> None:
        scorer, codec = self.scorer(13), CodecScorer(get_task("video_depth_estimation"))
        for number in range(2):
            episode = episode_of("video_depth_estimation", number)
            scorer.update(episode.query.input, episode.query.input)
            codec.update(episode, episode.query.target, 0.1)
        result = scorer.result()
        found = figures_of(result)
        assert result.n == 2
        assert list(found) == ["psnr", "ssim", "dt_rmse"]
        assert (found["psnr"].answer, found["psnr"].stderr, found["psnr"].std) == (100, 0, 0)
        assert found["ssim"].answer == pytest.approx(1)
        assert found["dt_rmse"].answer == 0
        for figure in found.values():
            assert set(figure.baselines) == {PCA_MIXTURE, PCA_OWN}
            assert all((figure.margin(name) or 0) > 0 for name in figure.baselines)
        task = codec.result()
        assert (task.n, task.pairs, task.seconds_per_query) == (2, 0, pytest.approx(0.1))
        assert all(figure.margin(CODEC) == 0 for figure in task.figures)

    def test_a_picture_counts_once(self) -> None:
        scorer = self.scorer()
        pictures = [episode_of("colorization", number).query.target for number in (0, 1, 0)]
        for picture in pictures:
            scorer.update(picture, noisy(picture))
        result = scorer.result()
        psnr = figures_of(result)["psnr"]
        assert result.n == 2
        assert psnr.answer == pytest.approx(20, abs=1.5)
        assert psnr.stderr is not None
        assert psnr.std == pytest.approx(psnr.stderr * 2**0.5)

    def test_instances_have_panoptic_quality(self) -> None:
        scorer = CodecScorer(get_task("instance_segmentation"))
        episode = episode_of("instance_segmentation")
        scorer.update(episode, noisy(episode.query.target, 0.02), 0.1)
        found = {figure.metric: figure for figure in scorer.result().figures}
        assert list(found) == ["ap", "ap50", "ap75", "mbo", "pq", "sq", "rq"]
        assert found["pq"].baselines == {CODEC: 100}

    def test_a_worse_picture_costs_more(self) -> None:
        costs = []
        for amount in (0.01, 0.1):
            scorer = CodecScorer(get_task("normal_estimation"))
            episode = episode_of("normal_estimation")
            scorer.update(episode, noisy(episode.query.target, amount), 0.1)
            costs.append(-(scorer.result().headline.margin(CODEC) or 0))
        assert 0 < costs[0] < costs[1]

    def test_where_the_picture_is_the_truth_there_is_no_codec(self) -> None:
        scorer = CodecScorer(get_task("deraining"))
        episode = episode_of("deraining")
        scorer.update(episode, episode.query.target, 0.1)
        assert scorer.result().headline.baselines == {}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A result of noise added to pictures, without any network."""
    data = EpisodeData(["depth_estimation", "video_depth_estimation", "colorization"], source=SOURCE)
    baselines = fit_baselines(data, 16, 12)
    modalities, tasks = {}, []
    for task in data.tasks:
        codec = CodecScorer(task)
        for number in range(2):
            episode = episode_of(task.name, number)
            codec.update(episode, noisy(episode.query.target), 0.1)
            for kind, picture in kinds_of(task, episode):
                scorer = modalities.setdefault(
                    kind, ModalityScorer(kind, baselines.mixture, baselines.own[kind], with_fid=False)
                )
                scorer.update(picture, noisy(picture))
                scorer.add_picture(picture, noisy(picture), episode.sample_id, tmp_path)
        tasks.append(codec.result())
    found = [modalities[kind].result() for kind in sorted(modalities, key=lambda kind: kind.rank)]
    result = RunResult("0.1", "lavindit test", 0, None, {}, {"kind": "vae"}, {}, {}, "now", tasks, modalities=found)
    (tmp_path / "result.json").write_text(json.dumps(result.to_json()))
    return tmp_path


class TestPages:
    def test_round_trip_and_older_schema(self, run_dir: Path) -> None:
        path = run_dir / "result.json"
        result = read_result(path)
        assert [m.modality for m in result.modalities] == ["rgb", "depth", "input of colorization", "rgb", "depth"]
        assert RunResult.from_json(result.to_json()) == result
        older = result.to_json() | {"schema": 1}
        del older["modalities"]
        for task in older["tasks"]:
            for figure in task["figures"]:
                del figure["std"]
        read = RunResult.from_json(older)
        assert (read.schema, read.modalities) == (4, [])
        assert read.tasks == result.tasks

    def test_a_modality_must_be_whole(self, run_dir: Path) -> None:
        data = read_result(run_dir / "result.json").to_json()
        del data["modalities"][1]["frames"]
        with pytest.raises(LavinditError, match=r"modalities\[1\]\.frames is missing"):
            RunResult.from_json(data)

    def test_html(self, run_dir: Path) -> None:
        text = write_report(run_dir)["html"].read_text()
        result = read_result(run_dir / "result.json")
        pictures = sum(len(modality.pictures) for modality in result.modalities)
        assert text.count("data:image/png;base64,") == 3 * pictures > 0
        assert text.count("error, 4 times<img") == pictures
        assert not re.search(r"Nearest target|Mean target|beats|\(missing\)", text)
        for word in ("PCA, mixture", "PCA, own", "dt_rmse", "Codec alone", "no codec", "rgb, 13 frames"):
            assert word in text

    def test_markdown(self, run_dir: Path) -> None:
        text = write_report(run_dir)["markdown"].read_text()
        links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
        pictures = sum(len(m.pictures) for m in read_result(run_dir / "result.json").modalities)
        assert len(links) == len(set(links)) == 3 * pictures > 0
        assert all((run_dir / link).is_file() for link in links)
        for table in re.split(r"\n\n", text):
            rows = [line for line in table.splitlines() if line.startswith("| ")]
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1

    def test_everything_is_escaped(self, run_dir: Path) -> None:
        evil = "<script>alert(1)</script>|"
        result = read_result(run_dir / "result.json")
        first = result.modalities[0]
        pictures = [replace(picture, sample_id=evil) for picture in first.pictures]
        changed = replace(first, modality=evil, tasks=[evil], pictures=pictures)
        written = replace(result, modalities=[changed], tasks=[replace(result.tasks[0], task=evil)])
        (run_dir / "result.json").write_text(json.dumps(written.to_json()))
        paths = write_report(run_dir)
        assert "<script" not in paths["html"].read_text()
        assert not re.search(r"(?<!\\)<script", paths["markdown"].read_text())

    def test_terminal_fits_in_100_columns(self, run_dir: Path) -> None:
        console = Console(width=100, record=True, file=(run_dir / "out").open("w"))
        print_result(read_result(run_dir / "result.json"), console)
        text = console.export_text()
        assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
        assert "…" not in text
        for word in ("PCA, own", "Through the VAE", "depth_estimation", "of 5 kinds"):
            assert word in text

    def test_words(self, run_dir: Path) -> None:
        result = read_result(run_dir / "result.json")
        text = describe_latent_cost(result)
        psnr = [modality.figures[0].margin(PCA_OWN) or 0 for modality in result.modalities]
        assert f"on {sum(margin > 0 for margin in psnr)} of 5 kinds" in text
        assert f"from {min(psnr):+.2f} dB" in text
        bare = [
            replace(m, figures=[Figure(**{**asdict(m.figures[0]), "baselines": {}})]) for m in result.modalities[:1]
        ]
        assert describe_latent_cost(replace(result, modalities=bare)).endswith("through the VAE and back.")
        assert [table.title for table in tables_of(replace(result, modalities=bare, tasks=[]), True)] == [
            "Images through the VAE"
        ]
