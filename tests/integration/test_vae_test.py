"""`lavindit test` of a VAE: what the latent space costs, with one process and with two."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import run_in_process
from lavindit.pictures import save_picture

OPTIONS = """
model: {init_args: {network: {widths: [16, 16, 16], encoder_blocks: 1, decoder_blocks: 1, norm_groups: 8}}}
data:
  tasks: [depth_estimation, colorization, instance_segmentation, video_depth_estimation]
  batch_size: 4
  eval_pairs: 4
  context: all
  context_draws: 3
  source: {resolution: 32, scenes: 8, test_scenes: 8, clips: 2, test_clips: 2}
  test_samples: 5
  eval_batch_size: 2
trainer: {precision: 32-true, max_steps: 1}
budget: {minutes: null}
threads: 1
"""


def arguments(run: Path, name: str) -> list[str]:
    start = [name, "--config", "experiment/demo_vae.yaml", "--config", str(run.parent / "options.yaml")]
    return [*start, f"--trainer.default_root_dir={run}"]


def run_here(args: list[str]) -> str:
    """What a command in this process says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "100")
        patch.delenv("LAVINDIT_PERCEPTUAL", raising=False)
        ran = run_in_process(args)
    assert ran.code == 0, ran.stderr
    return ran.stdout


def run_in_two(args: list[str]) -> None:
    """A command in two processes, which Lightning starts by the command line of the first."""
    command = [sys.executable, "-m", "lavindit", *args, "--trainer.devices=2", "--trainer.strategy=ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("LAVINDIT_PERCEPTUAL", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of one step, and a folder of twenty photographs."""
    folder = tmp_path_factory.mktemp("vae_test")
    photos = folder / "photos"
    for number in range(20):
        picture = torch.rand(3, 1, 5, 6, generator=torch.Generator().manual_seed(number))
        large = torch.nn.functional.interpolate(picture[:, 0][None], (40, 48), mode="bicubic")[0][:, None]
        save_picture(large, photos / f"{number:02}.png")
    (folder / "options.yaml").write_text(OPTIONS.replace("test_clips: 2", f"test_clips: 2, photos: {photos}"))
    run_here(arguments(folder / "run", "fit"))
    return folder / "run"


def result_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


def figures_of(result: dict[str, Any]) -> dict[str, float]:
    """All numbers of the result by name."""
    found = {}
    rows = {f"{m['modality']} {m['frames']}": m for m in result["modalities"]}
    rows |= {task["task"]: task for task in result["tasks"]}
    for name, row in rows.items():
        found[f"{name} n"] = row["n"]
        for figure in row["figures"]:
            found[f"{name} {figure['metric']}"] = figure["answer"]
            for rival, value in figure["baselines"].items():
                found[f"{name} {figure['metric']} {rival}"] = value
    return found


def test_two_processes_find_what_one_finds(run: Path) -> None:
    screen = run_here(arguments(run, "test"))
    result = result_of(run)
    one = figures_of(result)
    assert "Images through the VAE" in screen
    assert "nearest" not in screen
    assert (result["settings"]["pairs"], result["settings"]["context_draws"]) == (0, 1)
    names = [(m["modality"], m["frames"], m["n"]) for m in result["modalities"]]
    assert names[:3] == [("rgb", 1, 5), ("photographs, cropped", 1, 5), ("photographs, whole", 1, 2)]
    assert names[3:] == [
        ("depth", 1, 5), ("palettes", 1, 5), ("input of colorization", 1, 5), ("rgb", 13, 2), ("depth", 13, 2),
    ]  # fmt: skip
    assert one["depth 1 psnr pca_own"] > one["depth 1 psnr"]  # after one step
    assert one["instance_segmentation pq codec"] == 100
    assert one["depth_estimation abs_rel codec"] < 1e-5 < one["depth_estimation abs_rel"]
    assert all((run / picture[part]).is_file() for m in result["modalities"] for picture in m["pictures"]
               for part in ("truth", "rebuilt", "error"))  # fmt: skip
    assert {len(m["pictures"]) for m in result["modalities"]} == {2, 3}

    run_in_two(arguments(run, "test"))
    two = figures_of(result_of(run))
    assert two.keys() == one.keys()
    assert two == pytest.approx(one, abs=1e-4, nan_ok=True)

    run_here(["report", str(run)])
    assert "What the latent space costs" in (run / "report.html").read_text()
