"""A result with a bit of everything, for tests of reports."""

from pathlib import Path
from typing import Any

import torch

from lavindit.pictures import save_picture
from lavindit.report.figure import BEST_CONSTANT, MEAN_TARGET, NEAREST_TARGET, QUERY, QUERY_VAE, Figure
from lavindit.report.schema import (
    Application,
    RunResult,
    Strip,
    TaskResult,
)


def make_figure(answer: float | None = 0.31, direction: Any = "min", **changes: Any) -> Figure:
    baselines = {NEAREST_TARGET: 0.52, MEAN_TARGET: 0.44, BEST_CONSTANT: 0.47}
    values = {"stderr": 0.02, "baselines": baselines, "ceiling": 0.05} | changes
    return Figure("AbsRel", "1", direction, True, answer, **values)


def make_task(figure: Figure | None = None, **changes: Any) -> TaskResult:
    values: dict[str, Any] = {
        "task": "depth_estimation",
        "version": 1,
        "summary": "How far each pixel is.",
        "held_out": False,
        "n": 48,
        "pairs": 3,
        "seconds_per_query": 0.21,
        "figures": [figure or make_figure(), Figure("RMSE", "m", "min", False, 1.2)],
        "protocol": "Scale and shift aligned.",
    }
    return TaskResult(**values | changes)


def make_strip(folder: Path, name: str, size: int = 64, frames: int = 1, truth: bool = True) -> Strip:
    """Pictures of coloured gradients under `folder`/pictures."""
    axis = torch.linspace(0, 1, size)
    paths = []
    for index, part in enumerate(["in1", "out1", "in2", "out2", "query", "answer", "truth"]):
        ramp = torch.stack([axis.expand(size, size), axis.expand(size, size).T, torch.full((size, size), index / 6)])
        paths.append(f"pictures/{name}_{part}.png")
        save_picture(ramp[:, None].expand(3, frames, size, size), folder / paths[-1])
    one, two, three, four, query, answer, target = paths
    return Strip([(one, two), (three, four)], query, answer, target if truth else None, f"{name}/test/0")


def make_result(folder: Path, **changes: Any) -> RunResult:
    rivals: dict[str, float | None] = {NEAREST_TARGET: 9.6, MEAN_TARGET: 18.2, QUERY: 23.0, QUERY_VAE: 17.9}
    psnr = Figure("PSNR", "dB", "max", True, 18.4, 0.3, rivals, 21.2)
    strip = make_strip(folder, "depth")
    values: dict[str, Any] = {
        "lavindit_version": "0.1.0",
        "command": "lavindit test --config tiny.yaml --out runs/tiny",
        "seed": 7,
        "commit": "abc1234-dirty",
        "machine": {"cpu": "Example CPU", "cores": 2, "gpu": None},
        "model": {"name": "tiny", "parameters": 7_012_345},
        "settings": {"solver": {"name": "euler", "steps": 20}, "guidance": 1.0},
        "data": {"world_version": 1, "split": "test"},
        "created": "2026-01-01T12:00:00+00:00",
        "tasks": [
            make_task(
                make_figure(draw_std=0.0123),
                strips=[strip, make_strip(folder, "clip", 32, frames=5)],
                draws=3,
                sampling={"steps": 8, "solver": "euler", "guidance": 2.5, "times": None},
                constant="black, chosen on 64 training targets",
            ),
            make_task(
                psnr, task="motion_deblurring", parameters={"length_px": [5.0, 11.0], "layers": {"1": {"drops": 64}}}
            ),
            make_task(make_figure(0.6), task="video_instance_segmentation", held_out=True, n=12),
        ],
        "applications": [Application("depth", "my photo", make_strip(folder, "photo", 300, truth=False), 0.4)],
        "notes": ["LPIPS weights are missing; PSNR leads."],
    }
    return RunResult(**values | changes)
