import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from lavindit.errors import LavinditError
from lavindit.pictures import save_picture
from lavindit.task import FolderTask, all_tasks, get_task, registry

PLUGIN = """
from lavindit.codecs import IdentityCodec
from lavindit.metrics import RestorationMetric
from lavindit.task import Column, Task
from lavindit.types import Pair

class Mine(Task):
    name = "mine"
    version = 1
    summary = "Mine."
    columns = (Column("psnr", "dB", "max", headline=True), Column("mse", "1", "min"))

    def make_codec(self, scenes, generator):
        return IdentityCodec()

    def make_pair(self, scene, codec, generator):
        valid = scene.rgb[:1] > -1
        return Pair(scene.rgb, codec.encode(scene.rgb, valid), scene.rgb, valid)

    def make_metric(self):
        return RestorationMetric()
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that has not looked yet, and forgets again what it finds in this test."""
    monkeypatch.setattr(registry, "_found", None)


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, module: str) -> None:
    """As if a package with this task were installed."""
    point = EntryPoint(module, module, registry.ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.ENTRY_POINTS else [])


def test_built_in_tasks_are_named_as_their_files() -> None:
    files = {path.stem for path in (Path(__file__).parents[2] / "tasks").glob("*.py")} - {"__init__"}
    assert set(all_tasks()) >= files
    assert all(name == task.name for name, task in all_tasks().items())
    assert get_task("depth_estimation") is all_tasks()["depth_estimation"]


@pytest.mark.parametrize(
    ("name", "near"),
    [("depth_estimatoin", "depth_estimation"), ("colorisation", "colorization"), ("edges", "edge_detection")],
)
def test_unknown_name_offers_what_is_near(name: str, near: str) -> None:
    with pytest.raises(LavinditError, match=f"unknown task '{name}'.*did you mean .*{near}"):
        get_task(name)


def test_unknown_name_near_to_nothing() -> None:
    with pytest.raises(LavinditError, match=r"unknown task 'qqq'.*`lavindit tasks` lists them"):
        get_task("qqq")
    with pytest.raises(LavinditError, match=r"no such folder or plugin file"):
        get_task("nowhere/mine.py")


def test_a_file_that_is_no_plugin(tmp_path: Path) -> None:
    """A compiled prompt, most likely."""
    (tmp_path / "mine.prompt").touch()
    with pytest.raises(LavinditError, match=r"mine\.prompt is a file, but no plugin .* prompt is asked with --prompt"):
        get_task(tmp_path / "mine.prompt")


def test_plugin_file(plugin: Path) -> None:
    task = get_task(plugin)
    assert (task.name, task.headline.metric) == ("mine", "psnr")
    assert get_task(str(plugin)).name == "mine"
    assert "mine" not in all_tasks()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("class Mine", "raise RuntimeError('out of order')\nclass Mine", "fails to import: RuntimeError: out of order"),
        ("class Mine", "import no_such_module\nclass Mine", "fails to import: ModuleNotFoundError.*no_such_module"),
        ("class Mine", "class Mine Mine", "fails to import: SyntaxError"),
        ('name = "mine"', 'name = "yours"', "must set name = 'mine'"),
        ('    name = "mine"\n', "", "must set name = 'mine'"),
        ("class Mine(Task)", "class Mine", "exactly one Task class, it defines 0"),
        ("class Mine(Task)", "class Other(Task): pass\nclass Mine(Other)", None),
        ("    version = 1\n", "", "lacks version"),
        ('    summary = "Mine."\n', "", "lacks summary"),
        ("columns = ", "table = ", "lacks columns"),
        (", headline=True", "", "exactly one column as headline"),
        ('"min")', '"min", headline=True)', "exactly one column as headline"),
        ("def make_metric", "def make_metrics", "Mine lacks make_metric"),
    ],
)
def test_broken_plugin_is_named(plugin: Path, old: str, new: str, words: str | None) -> None:
    assert old in PLUGIN
    plugin.write_text(PLUGIN.replace(old, new))
    if words is None:
        assert get_task(plugin).name == "mine"
        return
    with pytest.raises(LavinditError, match=rf"task plugin .*mine\.py.*{words}"):
        get_task(plugin)


def test_two_classes_in_a_plugin(plugin: Path) -> None:
    plugin.write_text(PLUGIN + "\nclass Second(Mine):\n    pass\n")
    with pytest.raises(LavinditError, match=r"mine\.py must define exactly one Task class, it defines 2"):
        get_task(plugin)


@pytest.mark.usefixtures("_fresh")
class TestInstalledPlugins:
    def test_are_registered(self, monkeypatch: pytest.MonkeyPatch, plugin: Path) -> None:
        install(monkeypatch, plugin.parent, "mine")
        assert {"mine", "depth_estimation"} <= set(all_tasks())
        assert get_task("mine").summary == "Mine."

    def test_duplicate_name(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "colorization.py").write_text(PLUGIN.replace('"mine"', '"colorization"'))
        install(monkeypatch, tmp_path, "colorization")
        with pytest.raises(LavinditError, match=r"two tasks are named 'colorization'; rename .* entry point colorizat"):
            all_tasks()

    def test_that_fail_to_import(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text("1 / 0")
        install(monkeypatch, tmp_path, "mine")
        with pytest.raises(LavinditError, match=r"entry point mine .*ZeroDivisionError"):
            all_tasks()
        with pytest.raises(LavinditError, match="ZeroDivisionError"):  # and again: nothing half-found is kept
            all_tasks()

    def test_built_in_that_fails_to_import(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        package = tmp_path / "broken_tasks"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "mine.py").write_text("import no_such_module")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(registry, "BUILT_IN", "broken_tasks")
        with pytest.raises(LavinditError, match=r"broken_tasks/mine\.py fails to import: ModuleNotFoundError"):
            all_tasks()


class TestFolders:
    def test_is_a_task(self, tmp_path: Path) -> None:
        for part in ("input", "target"):
            save_picture(torch.zeros(3, 1, 8, 8), tmp_path / f"a_{part}.png")
        for name in (tmp_path, str(tmp_path)):
            assert isinstance(get_task(name), FolderTask)
        assert get_task(tmp_path).name == tmp_path.name

    def test_does_not_hide_a_registered_task(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "colorization").mkdir()  # what `lavindit apply --out colorization` leaves
        assert get_task("colorization") is all_tasks()["colorization"]
        with pytest.raises(LavinditError, match="no pairs in"):
            get_task("./colorization")
