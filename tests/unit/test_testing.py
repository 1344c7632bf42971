"""`lavindit.testing` finds every broken promise, and names the task and what it broke."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lavindit import testing
from lavindit.codecs import Codec, IdentityCodec, MaskCodec
from lavindit.data import SourceConfig
from lavindit.errors import LavinditError
from lavindit.metrics import RestorationMetric
from lavindit.metrics.functional.perceptual import kernel_distance
from lavindit.task import Column, Task, get_task
from lavindit.testing import CHECKS, check_task
from lavindit.types import Pair, Scene

TINY = SourceConfig(resolution=16, scenes=6, test_scenes=4)


class Shades(Task):
    """A task that keeps its promises."""

    name = "shades"
    version = 1
    summary = "Shades."
    columns = (Column("mse", "1", "min", headline=True), Column("psnr", "dB", "max"))

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        return MaskCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        native, valid = scene.rgb.mean(0, keepdim=True), torch.ones_like(scene.rgb[:1], dtype=torch.bool)
        return Pair(scene.rgb, codec.encode(native, valid), native, valid)

    def make_metric(self) -> RestorationMetric:
        return RestorationMetric(("mse", "psnr"))


def broken(pair: Callable[[Pair], Pair]) -> type[Task]:
    """A task whose pairs are spoilt."""

    class Broken(Shades):
        def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
            return pair(super().make_pair(scene, codec, generator))

    return Broken


class OwnDice(Shades):
    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        pair = super().make_pair(scene, codec, generator)
        return replace(pair, input=torch.rand(pair.input.shape))


class Moods(Shades):
    """Makes the query's pair darker or brighter, as the context is."""

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        self.shift = float(scenes[0].rgb.mean())
        return MaskCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        return super().make_pair(replace(scene, rgb=scene.rgb * self.shift), codec, generator)


class Fickle(Shades):
    """Accepts a scene twice."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def accepts(self, scene: Scene) -> bool:
        self.asked[scene.scene_id] += 1
        return self.asked[scene.scene_id] <= 2


class Picky(Shades):
    def accepts(self, scene: Scene) -> bool:
        return scene.scene_id.endswith(("/0", "/1"))


class Twins(Shades):
    """Scenes that differ in their names alone."""

    def make_source(self, split: str, resolution: int) -> Any:
        rgb = torch.rand(3, 1, resolution, resolution, generator=torch.Generator().manual_seed(0))
        return type("Source", (list,), {"provides": frozenset()})(Scene(f"{split}/{i}", rgb) for i in range(5))


class WrongUnit(Shades):
    columns = (Column("mse", "1", "min", headline=True), Column("psnr", "%", "max"))


class NoKey(Shades):
    columns = (Column("mse", "1", "min", headline=True), Column("ssim", "1", "max"))


class WrongWay(Shades):
    columns = (Column("mse", "1", "max", headline=True), Column("psnr", "dB", "max"))


class Flattered(Shades):
    def make_metric(self) -> RestorationMetric:
        metric = super().make_metric()
        metric.ideals = (0.0, 101.0)
        return metric


class Loud(Shades):
    def prepare_query(self, picture: torch.Tensor) -> torch.Tensor:
        return picture * 2


class KnowsAll(Shades):
    def known_pixels(self, query: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(query[:1], dtype=torch.bool)


class KnowsInNumbers(Shades):
    def known_pixels(self, query: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(query[:1])


class NotItsCodec(Shades):
    """Draws with one codec, hands out another."""

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        pair = super().make_pair(scene, codec, generator)
        return replace(pair, target=1 - pair.target)


class Lossy(Shades):
    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        codec = MaskCodec()
        codec.encode = lambda native, valid: (native.expand(3, -1, -1, -1) * 4).round() / 4
        return codec


class StillCalledVideo(Shades):
    modality = "video"

    @property
    def target_frames(self) -> int:
        return 1


def test_a_task_that_keeps_its_promises_passes() -> None:
    check_task(Shades(), TINY)
    assert len(CHECKS) == len({check.__name__ for check in CHECKS}) == 12
    assert all(vars(testing)[check.__name__] is check for check in CHECKS)


def test_a_plugin_file_and_a_name_will_do(tmp_path: Path) -> None:
    check_task("colorization", TINY)
    with pytest.raises(LavinditError, match="unknown task 'colourisation'"):
        check_task("colourisation")
    (tmp_path / "mine.py").write_text("from lavindit.task import Task\n")
    with pytest.raises(LavinditError, match=r"mine\.py must define exactly one Task class"):
        check_task(tmp_path / "mine.py")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (broken(lambda p: replace(p, input=p.input * 2)), r"the input has values outside \[0, 1\]"),
        (broken(lambda p: replace(p, input=p.input.double())), "the input is torch.float64, not float32"),
        (broken(lambda p: replace(p, target=p.target[..., 1:])), r"the target has shape \(3, 1, 16, 15\), not \(3, 1,"),
        (broken(lambda p: replace(p, valid=p.valid & False)), "a pair has no valid pixel"),
        (broken(lambda p: replace(p, valid=p.valid.float())), "valid is torch.float32, not bool"),
        (broken(lambda p: replace(p, valid=p.valid[:, :, 1:])), r"valid has shape \(1, 1, 15, 16\)"),
        (broken(lambda p: replace(p, native=p.native[..., 1:])), r"the native has frames and size \(1, 16, 15\)"),
        (NotItsCodec, "a target is not what the codec makes of the native"),
        (Lossy, r"a target decodes to 0\.1\d* 1 off its native; 1e-06 is allowed"),
        (OwnDice, "the same seed gave two episodes"),
        (Moods, "another draw changed the query"),
        (Twins, "four draws gave the same context"),
        (WrongUnit, "column psnr says unit '%', its metric 'dB'"),
        (NoKey, "column ssim is no key of its metric, which has mse, psnr"),
        (WrongWay, r"30% noise scores mse .*, a perfect answer 0 \(max\)"),
        (Flattered, "a perfect answer scores psnr 100, its ideal is 101"),
        (Loud, "prepare_query must give a picture"),
        (KnowsAll, "known_pixels names pixels where input and target differ"),
        (KnowsInNumbers, r"known_pixels must give a mask \[1, T, H, W\] of bool"),
        (StillCalledVideo, r"modality is video, and targets have 1 frame"),
    ],
)
def test_a_broken_promise_is_told_in_one_sentence(task: type[Task], words: str) -> None:
    with pytest.raises(AssertionError, match=f"^task shades: .*{words}") as told:
        check_task(task(), TINY)
    assert "\n" not in str(told.value)


def test_one_scene_twice_is_found() -> None:
    with pytest.raises(AssertionError, match="task shades: one scene comes twice in an episode"):
        testing.check_query_not_in_context(Twins(), TINY)


def test_a_task_that_changes_its_mind_is_found() -> None:
    with pytest.raises(AssertionError, match="task shades: `accepts` says now this, now that of a scene"):
        testing.check_accepts(Fickle(), TINY)


def test_too_few_scenes_are_told() -> None:
    with pytest.raises(LavinditError, match="task shades accepts 2 of 6 training scenes; a check needs 4"):
        check_task(Picky(), TINY)


def test_things_that_are_not_read_back_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    task = get_task("object_detection")
    testing.check_targets(task)
    monkeypatch.setattr("lavindit.codecs.BoxesCodec.decode", lambda codec, picture: torch.rand(1, 1, 4))
    with pytest.raises(AssertionError, match="object_detection: the truth, drawn and read back, scores miou 0"):
        testing.check_targets(task)


def test_a_distance_between_sets_may_be_below_its_ideal(monkeypatch: pytest.MonkeyPatch) -> None:
    """KID is unbiased: of few equal pictures it is negative."""

    class Distances(Shades):
        columns = (Column("kid", "1", "min", needs="inception"), Column("mse", "1", "min", headline=True))

        def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
            return IdentityCodec()

        def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
            valid = torch.ones_like(scene.rgb[:1], dtype=torch.bool)
            return Pair(scene.rgb, scene.rgb, scene.rgb, valid)

        def make_metric(self) -> Any:
            return Kid()

    class Kid(RestorationMetric):
        width = 2 * 48

        def __init__(self) -> None:
            super().__init__(("mse",))
            self.names, self.units, self.ideals = ("kid", "mse"), ("1", "1"), (0.0, 0.0)

        def score(self, answer: Any, truth: Any, valid: Any, meta: Any) -> torch.Tensor:
            down = torch.nn.functional.adaptive_avg_pool2d
            return torch.cat([down(answer[:, 0], 4).flatten(), down(truth[:, 0], 4).flatten()])

        def reduce(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
            answers, truths = rows.split(48, dim=1)
            return {"kid": kernel_distance(answers, truths), "mse": (answers - truths).square().mean()}

    x = torch.rand(3, 48, generator=torch.Generator().manual_seed(0)).double()
    assert float(kernel_distance(x, x)) < -1e-4
    monkeypatch.setattr("lavindit.task.contract.available", lambda name: True)
    testing.check_figures(Distances(), TINY)
