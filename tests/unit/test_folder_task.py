"""A folder is a task: what lies in it, what `task.yaml` says, and what is told when either is wrong."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from folder_pairs import SIZE, random_picture, write_config, write_half, write_pairs
from lavindit.clips import save_clip
from lavindit.data import EpisodeMaker, SourceConfig
from lavindit.errors import LavinditError
from lavindit.pictures import save_array, save_picture
from lavindit.task import FolderTask
from lavindit.task.context import parse_context
from lavindit.task.folder import METRICS_OF


class TestYaml:
    def test_without_one(self, tmp_path: Path) -> None:
        task = FolderTask(write_pairs(tmp_path / "negative"))
        assert (task.name, task.version, task.modality, task.context) == ("negative", 1, "image", "random")
        assert task.summary == "Whatever the pairs of a folder show."
        assert [column.metric for column in task.columns] == ["psnr", "ssim", "mse"]
        assert task.restores

    def test_an_empty_one_says_nothing(self, tmp_path: Path) -> None:
        write_pairs(tmp_path / "negative")
        (tmp_path / "negative" / "task.yaml").write_text("# nothing yet\n")
        assert FolderTask(tmp_path / "negative").name == "negative"

    def test_says_it_all(self, tmp_path: Path) -> None:
        task = FolderTask(
            write_pairs(
                tmp_path,
                name="wheels",
                summary="Find the wheels.",
                version=3,
                codec={"name": "mask"},
                metrics=["edges"],
                context={"fixed": ["d", "b"]},
            )
        )
        assert (task.name, task.summary, task.version) == ("wheels", "Find the wheels.", 3)
        assert task.context == "fixed:3,1"
        assert [(column.metric, column.direction) for column in task.columns] == [("f_score", "max"), ("mse", "min")]
        assert task.headline.metric == "f_score"
        assert not task.restores

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({"contexts": "all"}, "unknown key 'contexts'; did you mean 'context'"),
            ({"qqq": 1}, "unknown key 'qqq'; there is name, summary, version"),
            ({"name": 3}, "name must be a text, not 3"),
            ({"name": "a/b"}, "name must be a name without slashes"),
            ({"summary": ""}, "summary must be a text"),
            ({"version": "1"}, "version must be a whole number above 0, not '1'"),
            ({"version": True}, "version must be a whole number above 0, not True"),
            ({"version": 0}, "version must be a whole number above 0"),
            ({"frames": 12}, r"frames must be 4k\+1 and at least 5, not 12"),
            ({"frames": 1}, r"frames must be 4k\+1 and at least 5, not 1"),
            ({"context": "closest"}, "context must be random, nearest, all or fixed"),
            ({"context": {"fixed": []}}, "context must be random, nearest, all or fixed"),
            ({"context": {"fixed": ["a", "a"]}}, "context names a pair twice"),
            ({"context": {"fixed": ["alpha"]}}, "context: there is no pair 'alpha'; there is a, b, c, d"),
            ({"codec": ["depth"]}, "codec must be a name, or a mapping"),
            ({"codec": "deph"}, "codec: .*'deph'; did you mean 'depth'"),
            ({"codec": "boxes"}, "codec: no codec of folders is called 'boxes'"),
            ({"codec": {"name": "depth", "fra": 2}}, "codec: codec 'depth' has no option 'fra'; did you mean 'far'"),
            ({"codec": {"name": "depth", "far": "x"}}, "codec: 'depth' cannot take"),
            ({"codec": {"name": "depth", "near": 9, "far": 1}}, "codec: codec 'depth' needs 0 < near < far"),
            ({"codec": {"name": "palette", "generator": 1}}, "codec: 'palette' draws from the episode's generator"),
            ({"metrics": "psnr"}, "metrics must be a list of names"),
            ({"metrics": []}, "metrics must be a list of names"),
            ({"metrics": ["restoraton"]}, "metrics: 'restoraton' cannot score .*; did you mean 'restoration'"),
            ({"metrics": ["depth"]}, "metrics: 'depth' cannot score codec 'identity'"),
            ({"metrics": [{"name": "pictures", "figures": ["pnsr"]}]}, "metrics: .*'pnsr'; did you mean 'psnr'"),
            ({"metrics": ["restoration", "pictures"]}, "two of the joined metrics measure 'psnr'"),
            ({"colours": [[255, 0, 0]]}, "colours: codec 'identity' has no use for them"),
            ({"codec": "palette", "colours": [[0, 0, 256]]}, "colours must be a list of colours"),
            ({"codec": "palette", "colours": [[0, 0, 0]]}, "colours must name a colour besides black"),
            ({"codec": "palette", "colours": [[9, 0, 0], [9, 0, 0]]}, "colours has a colour twice"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, config: dict[str, Any], words: str) -> None:
        with pytest.raises(LavinditError, match=rf"mine/task\.yaml.*{words}") as told:
            FolderTask(write_config(write_pairs(tmp_path / "mine"), **config))
        assert "\n" not in str(told.value)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("name: [a", "is no YAML: .* in line"),
            ("- a\n- b\n", "must hold keys and values"),
            ("name: a\n\tversion: 2\n", "is no YAML: .* in line 2"),
            (b"name: \xff\n", "cannot read"),
        ],
    )
    def test_no_yaml(self, tmp_path: Path, text: str | bytes, words: str) -> None:
        write_pairs(tmp_path)
        (tmp_path / "task.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(LavinditError, match=words) as told:
            FolderTask(tmp_path)
        assert "task.yaml" in str(told.value)
        assert "\n" not in str(told.value)

    def test_another_suffix_is_not_passed_over(self, tmp_path: Path) -> None:
        write_pairs(tmp_path)
        (tmp_path / "task.yml").touch()
        with pytest.raises(LavinditError, match=r"task\.yml is not read; call it task\.yaml"):
            FolderTask(tmp_path)

    def test_each_folder_keeps_its_own(self, tmp_path: Path) -> None:
        one = FolderTask(write_pairs(tmp_path / "one", version=2, codec="depth"))
        other = FolderTask(write_pairs(tmp_path / "other"))
        assert (one.version, other.version) == (2, 1)
        assert (one.headline.metric, other.headline.metric) == ("abs_rel", "psnr")


class TestPairs:
    def test_names_with_dots_of_files_and_folders(self, tmp_path: Path) -> None:
        for part in ("input", "target"):
            write_half(tmp_path / part, random_picture(0, 5))
            (tmp_path / part).rename(tmp_path / f"v1.2_{part}")
        (tmp_path / ".hidden_input").mkdir()
        (tmp_path / "notes_input.txt").touch()
        source = FolderTask(write_config(tmp_path, frames=5)).make_source("train", SIZE)
        assert [source[i].scene_id for i in range(len(source))] == ["v1.2"]

    @pytest.mark.parametrize(
        ("entries", "words"),
        [
            (["a_input/", "a_target.png", "b_target/"], r"b_target has no partner; add .*b_input or remove"),
            (["a_input.png", "a_target.npy", "b_target.npy"], r"b_target\.npy has no partner; add .*b_input\.png"),
            (["a_input.png", "a_target.npy", "a_target.png"], r"a_target\.npy and a_target\.png are one half"),
            (["a_input.npy", "a_target.png"], r"a_target\.png has no partner"),
            (["a_input.png", "a_target.png", "b_input/", "b_target.png"], "b_input is a clip and a_input.png is none"),
            (["a_input.png", "a_target.png", "b_input.png", "b_target.mp4"], "give all targets of a folder one kind"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, entries: list[str], words: str) -> None:
        for name in entries:
            path = tmp_path / name
            if name.endswith("/"):
                save_clip(random_picture(0, 5), path)
            elif name.endswith(".npy"):
                save_array(torch.rand(1, 8, 8), path)
            else:
                save_picture(random_picture(0), path)
        with pytest.raises(LavinditError, match=words):
            FolderTask(tmp_path)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(LavinditError, match="no such folder"):
            FolderTask(tmp_path / "none")

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            (b"", "cannot read .*a_target.npy as an array"),
            (b"no array", "cannot read .*a_target.npy as an array"),
            (np.zeros(3), r"float64 values of shape \[3\]; give numbers"),
            (np.zeros((1, 4, 4), dtype="U3"), "give numbers"),
            (np.array([{"a": 1}]), "cannot read .*a_target.npy as an array"),
        ],
    )
    def test_no_array(self, tmp_path: Path, values: bytes | np.ndarray, words: str) -> None:
        save_picture(random_picture(0), tmp_path / "a_input.png")
        if isinstance(values, bytes):
            (tmp_path / "a_target.npy").write_bytes(values)
        else:
            np.save(tmp_path / "a_target.npy", values)
        with pytest.raises(LavinditError, match=words) as told:
            FolderTask(tmp_path)
        assert "\n" not in str(told.value)


class TestSplits:
    def test_all_pairs_serve_all_splits(self, tmp_path: Path) -> None:
        task = FolderTask(write_pairs(tmp_path))
        assert [len(task.make_source(split, SIZE)) for split in ("train", "val", "test")] == [4, 4, 4]
        assert "all 4 pairs" in task.protocol
        assert "scored on what it has seen" in task.protocol
        episode = EpisodeMaker(task, "test", SourceConfig(resolution=SIZE)).episode(1, 3, seed=0)
        assert not any(torch.equal(pair.input, episode.query.input) for pair in episode.pairs)

    def test_a_subfolder_of_queries(self, tmp_path: Path) -> None:
        write_pairs(tmp_path)
        for part in ("input", "target"):
            write_half(tmp_path / "test" / f"a_{part}", random_picture(100))
        task = FolderTask(tmp_path)
        assert [len(task.make_source(split, SIZE)) for split in ("train", "val", "test")] == [4, 1, 1]
        assert task.make_source("test", SIZE)[0].scene_id == "test/a"
        assert "the 1 pairs of test/" in task.protocol
        # A pair of the same name outside is another one, so all four can be shown.
        episode = EpisodeMaker(task, "test", SourceConfig(resolution=SIZE)).episode(0, 4, seed=0)
        assert len({pair.input.sum().item() for pair in episode.pairs}) == 4
        torch.testing.assert_close(episode.query.input, random_picture(100))

    def test_queries_are_of_the_same_kind(self, tmp_path: Path) -> None:
        write_pairs(tmp_path)
        write_pairs(tmp_path / "test", "e", frames=(5, 5))
        with pytest.raises(LavinditError, match=r"a_input\.png and .*e_input one is a clip"):
            FolderTask(tmp_path)
        (tmp_path / "test").rename(tmp_path / "test_old")
        (tmp_path / "test").mkdir()
        with pytest.raises(LavinditError, match=r"no pairs in .*test"):
            FolderTask(tmp_path)


class TestMemory:
    def test_scenes_are_kept_while_there_is_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_pairs(tmp_path)
        probe = FolderTask(tmp_path).make_source("train", SIZE)[0]
        size_bytes = sum(value.nbytes for value in vars(probe).values() if isinstance(value, Tensor))
        monkeypatch.setattr("lavindit.task.folder.KEPT_BYTES", 2 * size_bytes)
        source = FolderTask(tmp_path).make_source("train", SIZE)
        first = [source[i] for i in (3, 1, 0, 2)]
        assert [source[i] is scene for i, scene in zip((3, 1, 0, 2), first, strict=True)] == [True, True, False, False]
        assert torch.equal(source[0].rgb, first[2].rgb)


class TestContext:
    @pytest.mark.parametrize("context", ["nearest", "all", {"fixed": ["c", "a", "d"]}])
    def test_is_how_pairs_are_chosen(self, tmp_path: Path, context: Any) -> None:
        task = FolderTask(write_pairs(tmp_path, context=context))
        maker = EpisodeMaker(task, "test", SourceConfig(resolution=SIZE), parse_context(task.context))
        shown = [pair.input for pair in maker.episode(1, 3, seed=0).pairs]
        order = {"all": [0, 2, 3], "fixed": [2, 0, 3]}
        expected = order.get(context if isinstance(context, str) else "fixed")
        assert len(shown) == 3
        if expected:
            assert all(torch.equal(a, random_picture(i)) for a, i in zip(shown, expected, strict=True))


def test_the_examples_of_the_page_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "folders.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 3
    write_pairs(tmp_path)
    for example in examples:
        (tmp_path / "task.yaml").write_text(example)
        assert FolderTask(tmp_path).columns
    table = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", page.split("| `codec` | A picture")[1], re.MULTILINE))
    assert {codec: tuple(re.findall(r"`(\w+)`", names)) for codec, names in table.items()} == METRICS_OF
