"""The wheel, unpacked elsewhere and without the checkout, is whole."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from setuptools import Distribution

from lavindit.pictures import save_picture

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(CHECKOUT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True, capture_output=True)
    return site


def run(unpacked: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(unpacked), "COLUMNS": "200"}
    environment.pop("LAVINDIT_MODEL", None)
    return subprocess.run(
        [sys.executable, *arguments], cwd=unpacked.parent, env=environment, capture_output=True, text=True, timeout=120
    )


def test_it_is_the_wheel_that_runs(unpacked):
    done = run(unpacked, "-c", "import lavindit, lavindit_tasks; print(lavindit.__file__, lavindit_tasks.__file__)")
    assert done.stdout.count(str(unpacked)) == 2, done.stdout + done.stderr


def test_it_lists_every_task(unpacked):
    done = run(unpacked, "-m", "lavindit", "tasks")
    assert done.returncode == 0, done.stderr
    for path in (CHECKOUT / "tasks").glob("[a-z]*.py"):
        assert path.stem in done.stdout


def test_released_models_go_into_it(unpacked, tmp_path):
    """By the patterns of pyproject.toml, as setuptools reads them; and those that are there are in the wheel."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]
    names = ["config.json", "jdit.safetensors", "stvae.safetensors", "MODEL_CARD.md"]
    folder = tmp_path / "released" / "any"
    folder.mkdir(parents=True)
    for name in [*names, ".half.tmp", "notes.txt"]:
        (folder / name).touch()
    build = Distribution({"package_data": settings["package-data"]}).get_command_obj("build_py")
    build.ensure_finalized()
    build.manifest_files = {}  # what MANIFEST.in would add
    found = [Path(path) for path in build.find_data_files("lavindit", str(tmp_path))]
    assert sorted(path.name for path in found if path.parent == folder) == sorted(names)
    root = CHECKOUT / "src" / "lavindit"
    for path in (root / "released").glob("*/*"):
        assert (unpacked / "lavindit" / path.relative_to(root)).read_bytes() == path.read_bytes()


def test_it_finds_its_configs(unpacked):
    done = run(unpacked, "-m", "lavindit", "fit", "--config", "experiment/demo_vae.yaml", "--print_config")
    assert done.returncode == 0, done.stderr
    assert "lavindit.training.VAEModule" in done.stdout


def test_it_answers_with_a_model(unpacked, tiny_model_dir, tmp_path):
    save_picture(torch.rand(3, 1, 40, 24), tmp_path / "query.png")
    done = run(
        unpacked,
        *("-m", "lavindit", "apply", "--task", "colorization", "--model", str(tiny_model_dir), "--out", "answers"),
        *("--query", str(tmp_path / "query.png"), "--pairs", "2"),
    )
    assert done.returncode == 0, done.stderr
    assert (unpacked.parent / "answers" / "query_colorization.png").is_file()
