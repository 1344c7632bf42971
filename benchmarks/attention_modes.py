r"""Context attention and the economy of training: equal steps and equal time from the same start, on the same latents.

    lavindit fit --config experiment/demo_vae.yaml
    lavindit encode --config experiment/demo_jdit.yaml --task depth_estimation --task normal_estimation \
        --task edge_detection --task deraining --pairs 7 --episodes 8000 --out runs/latents_modes
    python benchmarks/attention_modes.py --latents runs/latents_modes --run runs/attention_modes \
        --out benchmarks/results/attention_modes.json

A cell is one training and one test: a variant, K, a seed, and a budget, "steps" or "time". Variants of one seed start
from the same weights (new ones, or those in --start) and see the same episodes. Each cell measures the loss of the
query's target, given all pairs, on held-out episodes whose noise is the same for all, and the headline metrics of
`lavindit test` on queries that are the same for all, seeds included.

A cell writes its JSON when it ends and is not run again, so a grid can be run in pieces: --only, --pairs, --seeds and
--budgets choose cells; --join runs none and joins what is there. Of two budgets, three seeds and two K all variants are
84 cells of about six minutes. A reasonable half: all variants at K = 7, and joint, prefix and every_pair at K = 3. On
two cores two processes with --threads 1 may run side by side, each with cells of its own, if both are busy all the
time: equal time means equal company.

Without --latents, pictures are rendered first and encoded in each step, which costs every variant the same.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lavindit  # noqa: F401  (first: it repairs torchvision)

# isort: split
import torch
from lightning import Trainer

from attention_modes_table import VARIANTS, Cell, Found, compare, targets
from lavindit.cli.train import cpu_precision
from lavindit.data import EpisodeData, SourceConfig
from lavindit.data.latents import LatentStore
from lavindit.files import write_atomically
from lavindit.inference import SamplingConfig
from lavindit.models import JDiTConfig
from lavindit.report import current_commit, file_benchmark
from lavindit.report.schema import RESULT_NAME, read_result
from lavindit.training import DiTModule
from lavindit.training.optimizers import MuonAdamW
from lavindit.training.schedule import TimeBudget

TASKS = ["deraining", "depth_estimation", "edge_detection", "normal_estimation"]
BUDGETS = ("steps", "time")
SETTINGS = ("task", "steps", "minutes", "batch_size", "lr", "guidance", "solver_steps", "queries", "accelerator",
    "precision", "threads")  # fmt: skip


def module_of(cell: Cell, chosen: argparse.Namespace) -> DiTModule:
    """A small nano in a variant: the recipe of `configs/experiment/nano.yaml` at width 128, not compiled."""
    mode, targets, copies = VARIANTS[cell.variant]
    return DiTModule(
        chosen.vae,
        JDiTConfig(
            width=128,
            depth=6,
            heads=2,
            queries_per_kv=2,
            input_condition=True,
            predicts="data",
            context_attention=mode,  # pyright: ignore[reportArgumentType]
        ),
        optimizer=lambda parameters: MuonAdamW(parameters, lr=chosen.lr, weight_decay=0.01),
        targets=targets,  # pyright: ignore[reportArgumentType]
        noisy_copies=copies,
        time_shift=10.0,
        sampling=SamplingConfig(steps=chosen.solver_steps, shift=10.0, guidance=chosen.guidance),
        seed=cell.seed,
        strips=0,
        init_from=chosen.start,
    )


def source_of(chosen: argparse.Namespace) -> SourceConfig:
    """The scenes that the latents are of."""
    if chosen.latents is None:
        return SourceConfig(scenes=chosen.scenes, photo_share=0.3, photos=chosen.photos)
    return SourceConfig(**LatentStore(chosen.latents).description.config.source | {"photos": chosen.photos})


def data_of(cell: Cell, chosen: argparse.Namespace) -> EpisodeData:
    """Episodes to train on, of the cell's seed."""
    sizes = {"batch_size": chosen.batch_size, "min_pairs": cell.pairs, "max_pairs": cell.pairs}
    data = EpisodeData(chosen.task, source=source_of(chosen), seed=cell.seed, latents=chosen.latents, **sizes)
    if chosen.latents is None:  # scenes are rendered before the clock starts
        for maker in data.training_makers().values():
            for chunk in range(0, len(maker.queries), 64):
                maker.queries[chunk]
    return data


def run(cell: Cell, chosen: argparse.Namespace) -> Found:
    """Train and test one cell."""
    torch.manual_seed(cell.seed)
    torch.set_num_threads(chosen.threads)
    module, timed = module_of(cell, chosen), cell.budget == "time"
    clock = TimeBudget(chosen.minutes if timed else None)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator=chosen.accelerator, devices=1, precision=chosen.precision, default_root_dir=folder,
            max_steps=-1 if timed else chosen.steps, max_epochs=-1, callbacks=[clock], gradient_clip_val=1.0,
            num_sanity_val_steps=0, val_check_interval=10**9, check_val_every_n_epoch=None, logger=False,
            enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
            use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(module, data_of(cell, chosen))
        steps = trainer.global_step
        module.targets = replace(module.targets, which="query", copies=1)  # the same question to all
        held_out = EpisodeData(
            chosen.task, source=source_of(chosen), eval_pairs=cell.pairs, context_draws=1,
            val_samples=chosen.queries, test_samples=chosen.queries,
        )  # fmt: skip
        losses = trainer.validate(module, held_out, verbose=False)[0]
        trainer.test(module, held_out, verbose=False)
        result = read_result(Path(folder) / RESULT_NAME)
    kept = ("metric", "unit", "direction", "answer", "stderr")
    return Found(
        steps,
        clock.elapsed_s,
        {name.removeprefix("val_loss").removeprefix("/") or "all": value for name, value in losses.items()},
        {task.task: {key: getattr(task.headline, key) for key in kept} for task in result.tasks},
        settings_of(chosen),
        current_commit(),
    )


def settings_of(chosen: argparse.Namespace) -> dict[str, Any]:
    """What all cells of a comparison must share."""
    given = {"latents": chosen.latents is not None, "start": chosen.start is not None}
    return {key: getattr(chosen, key) for key in SETTINGS} | given


def read_cells(chosen: argparse.Namespace) -> dict[Cell, Found]:
    """Those that have been run."""
    found = {cell: chosen.run / f"{cell.name}.json" for cell in cells(chosen)}
    return {cell: Found(**json.loads(path.read_text())) for cell, path in found.items() if path.is_file()}


def cells(chosen: argparse.Namespace) -> Iterator[Cell]:
    """Those that were chosen, seed by seed, so that what is there after an interruption can be compared."""
    for seed in chosen.seeds:
        for pairs in chosen.pairs:
            for budget in chosen.budgets:
                for variant in chosen.only or VARIANTS:
                    yield Cell(variant, pairs, seed, budget)


def join(chosen: argparse.Namespace) -> None:
    """Compare all cells that are there."""
    found = read_cells(chosen)
    if not found:
        raise SystemExit(f"no cell of this choice in {chosen.run}; run some first")
    settings = [one.settings for one in found.values()]
    differ = sorted({key for one in settings for key in one if one[key] != settings[0][key]})
    if differ:
        raise SystemExit(f"cells in {chosen.run} differ in {', '.join(differ)}; remove those that are not meant")
    rows = compare(found)
    fields = {
        "settings": settings[0],
        "variants": {name: dict(zip(("context_attention", "targets", "noisy_copies"), value, strict=True))
            for name, value in VARIANTS.items()},
        "cell_commits": sorted({str(one.commit) for one in found.values()}),
        "n": settings[0]["queries"], "targets": targets(rows), "figures": rows,
        "cells": {cell.name: {k: v for k, v in asdict(one).items() if k != "settings"} for cell, one in found.items()},
    }  # fmt: skip
    file_benchmark(chosen.out, sorted({cell.seed for cell in found}), fields)


def parse() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", default="runs/demo_vae/model")
    parser.add_argument("--latents", help="folder that `lavindit encode` has written; none: pictures")
    parser.add_argument("--scenes", type=int, default=4096, help="of the training, without latents")
    parser.add_argument("--photos", help="folder of photographs, if the latents' source has one")
    parser.add_argument("--start", help="model directory that all start from; none: new weights, the seed's")
    parser.add_argument("--task", nargs="+", default=TASKS)
    parser.add_argument("--only", choices=VARIANTS, nargs="+", help="train these, and join nothing")
    parser.add_argument("--pairs", type=int, nargs="+", default=[3, 7])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budgets", choices=BUDGETS, nargs="+", default=list(BUDGETS))
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--solver_steps", type=int, default=4)
    parser.add_argument("--queries", type=int, default=64, help="a task, of the loss and of the test")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--precision", default=cpu_precision())
    parser.add_argument("--join", action="store_true", help="train nothing")
    parser.add_argument("--run", type=Path, required=True, help="folder of the cells")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    """Run what is missing of the choice; join."""
    chosen = parse()
    for cell in () if chosen.join else cells(chosen):
        path = chosen.run / f"{cell.name}.json"
        if not path.is_file():
            found = run(cell, chosen)
            write_atomically(path, (json.dumps(asdict(found), indent=2) + "\n").encode())
            print(f"{cell.name}: {found.steps} steps, held-out loss {found.held_out_loss['all']:.4f}", flush=True)
    if chosen.join or not chosen.only:
        join(chosen)


if __name__ == "__main__":
    main()
