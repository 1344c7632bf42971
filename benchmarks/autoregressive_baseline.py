"""Our model beside the autoregressive baseline: the same queries, pairs, metrics and codecs; or how long both take.

    python benchmarks/autoregressive_baseline.py --model runs/nano_45 --baseline runs/ar/model \
        --out benchmarks/results/autoregressive.json
    python benchmarks/autoregressive_baseline.py --model runs/nano_45 --baseline runs/ar/model --latency \
        --out benchmarks/results/autoregressive_latency.json

Each task of images is tested as `lavindit benchmark` tests it under the same protocol: scenes, queries, draws of
context, noise, sampling of ours. Beside each headline stand its standard error, its ceiling (the truth through our VAE,
and through the baseline's tokenizer) and who is better by more than the noise, as `lavindit benchmark --compare` tells
it. Tokens are chosen greedily; where --sampling names several ways, each task takes the one that is best on validation
queries. What was measured lies beside --out until all is, and the same command goes on.

--latency measures seconds per query instead, by resolution and pairs: `autoregressive/latency.py`.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lavindit  # noqa: F401  (first: it repairs torchvision)

# isort: split
import torch
from torch import Tensor

from autoregressive.answers import Sampling, answer_batch
from autoregressive.latency import measure_cell, ratios
from autoregressive.store import DECODER, TOKENIZER, Baseline, load_baseline
from cells import Cells, Row, run_script
from lavindit.cli.tools import use_threads
from lavindit.data.episodes import EpisodeMaker
from lavindit.data.mixture import EpisodeTest
from lavindit.errors import LavinditError
from lavindit.inference import Engine, TaskScorer, load
from lavindit.inference.sampler import can_read_once
from lavindit.models import model_folder
from lavindit.models.store import JDIT_NAME
from lavindit.models.weights import file_sha256
from lavindit.report import file_benchmark
from lavindit.report.compare import NOISE_WIDTH, Difference, error_of
from lavindit.report.figure import QUERY_VAE, Figure
from lavindit.report.schema import TaskResult
from lavindit.task import Task, get_task, give_back_detail
from lavindit.task.context import parse_context
from lavindit.training.checkpoints import last_checkpoint, read_checkpoint
from lavindit.training.protocols import Protocol, built_in_tasks, choose_protocol, has_clips
from lavindit.types import EpisodeBatch
from studies import Answer, answer_of, source_of

RESOLUTIONS, PAIRS = (64, 128), (1, 2, 4, 8, 16)


@dataclass(frozen=True, eq=False)
class Match:
    """Both models and how they are tested.

    Attributes:
        engine: Ours.
        baseline: The other.
        protocol: Queries, draws and pairs.
        batch_size: Queries a batch.
        samplings: How the baseline chooses tokens; of several, each task takes its best.
        val_queries: Validation queries that they are chosen on.
    """

    engine: Engine
    baseline: Baseline
    protocol: Protocol
    batch_size: int
    samplings: tuple[str, ...]
    val_queries: int

    def batches(self, task: Task, split: str, queries: int, draws: int) -> EpisodeTest:
        """Queries of a split."""
        source = source_of(self.protocol, self.engine.settings.resolution)
        maker = EpisodeMaker(task, split, source, parse_context(task.context))
        return EpisodeTest(maker, queries, self.batch_size, self.protocol.pairs, self.protocol.seed, draws)

    def baseline_answer(self, task: Task, sampling: str) -> Answer:
        """The baseline, with a choice of tokens; detail is given back to its answers as to ours."""
        chosen, rebuild = Sampling.parse(sampling, self.protocol.seed), self.through_tokens

        def answer(batch: EpisodeBatch) -> Tensor:
            found, query = answer_batch(*self.baseline.complete, batch, chosen), batch.inputs[:, -1]
            return give_back_detail(found, query, rebuild(query)) if task.keeps_detail else found

        return answer

    def through_tokens(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, 1, H, W] through the baseline's tokenizer and back."""
        tokenizer, _ = self.baseline.complete
        return tokenizer.decode(tokenizer.encode(pictures), pictures.shape[-2])


@torch.no_grad()
def score(batches: EpisodeTest, task: Task, answer: Answer, rebuild: Callable[[Tensor], Tensor] | None) -> TaskResult:
    """Figures of one model on one task; `rebuild` takes pictures [B, 3, 1, H, W] through its autoencoder."""
    scorer = TaskScorer(task, with_ceiling=rebuild is not None, draws=batches.draws)
    scorer.through_vae.pop(QUERY_VAE, None)  # a test of the model has it
    for index in range(len(batches)):
        batch = batches[index]
        began = time.perf_counter()
        answers = answer(batch)
        seconds = (time.perf_counter() - began) / len(batch)
        rebuilt: Sequence[Tensor | None] = [None] * len(batch)
        if rebuild is not None and batch.episodes[0].draw == 0:  # the truth is the same in all draws
            truths, queries = rebuild(batch.targets[:, -1]), batch.inputs[:, -1]
            rebuilt = list(give_back_detail(truths, queries, rebuild(queries)) if task.keeps_detail else truths)
        for place, episode in enumerate(batch.episodes):
            scorer.update(episode, answers[place], rebuilt[place], seconds)
    return scorer.result()


def choose_sampling(match: Match, task: Task) -> str:
    """The baseline's sampling that is best by the task's headline on validation queries; the only one untried."""
    if len(match.samplings) == 1:
        return match.samplings[0]
    batches = match.batches(task, "val", match.val_queries, 1)
    found = {name: score(batches, task, match.baseline_answer(task, name), None).headline for name in match.samplings}
    known = {name: figure for name, figure in found.items() if figure.answer is not None}
    if not known:
        return match.samplings[0]
    upwards = task.headline.direction == "max"
    return (max if upwards else min)(known, key=lambda name: known[name].answer or 0.0)


def measure(match: Match, name: str) -> dict[str, Any]:
    """Both models on one task."""
    task = get_task(name)
    if has_clips(task):
        raise LavinditError(f"task {name} has clips; the autoregressive baseline answers images, leave it out")
    batches = match.batches(task, "test", match.protocol.images, match.protocol.draws)
    sampling = choose_sampling(match, task)
    vae, answer = match.engine.vae, answer_of(match.engine, task, match.protocol.seed)
    ours = score(batches, task, answer, lambda part: vae.to_pictures(vae.to_latent(part)))
    theirs = score(batches, task, match.baseline_answer(task, sampling), match.through_tokens)
    return compare(task, ours, theirs) | {"sampling": sampling}


def compare(task: Task, ours: TaskResult, theirs: TaskResult) -> dict[str, Any]:
    """A task's row: every figure of both, and who is better by the headline."""
    errors = [error_of(result.headline, result.draws) for result in (ours, theirs)]
    noise = None if None in errors else NOISE_WIDTH * sum(e**2 for e in errors if e is not None) ** 0.5
    difference = Difference(task.name, task.held_out, theirs.headline, ours.headline, noise)
    shown = theirs.headline
    return {
        "metric": shown.metric, "unit": shown.unit, "direction": shown.direction, "held_out": task.held_out,
        "n": ours.n, "draws": ours.draws, "pairs": ours.pairs, "version": task.version,
        "ours": figure_of(ours.headline), "autoregressive": figure_of(theirs.headline),
        "gain_of_ours": difference.gain, "noise": noise, "ours_is": difference.mark,
        "better": None if difference.gain is None else "ours" if difference.gain > 0 else "autoregressive",
        "baselines": ours.headline.baselines,
        "seconds_per_query_in_batches": {"ours": ours.seconds_per_query, "autoregressive": theirs.seconds_per_query},
        "figures": {
            figure.metric: {"ours": figure_of(figure), "autoregressive": figure_of(other)}
            for figure, other in zip(ours.figures, theirs.figures, strict=True)
        },
    }  # fmt: skip


def figure_of(figure: Figure) -> dict[str, float | None]:
    """What is filed of a figure."""
    return {name: getattr(figure, name) for name in ("answer", "stderr", "draw_std", "ceiling")}


def summary_of(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Counts over the tasks; "share" is that of the tasks that both run on which our headline is the better one."""
    known = [row for row in rows.values() if row["better"] is not None]
    wins = sum(row["better"] == "ours" for row in known)
    marks = {mark: sum(row["ours_is"] == mark for row in rows.values()) for mark in ("better", "within noise", "worse")}
    return {"tasks": len(known), "ours_ahead": wins, "share": wins / len(known) if known else None, "ours_is": marks}


def compare_all(match: Match, tasks: Sequence[str], cells: Cells) -> Row:
    """All tasks."""
    sides = match.engine.settings.resolution, match.baseline.info["resolution"]
    if sides[0] != sides[1]:
        raise LavinditError(f"our model answers at {sides[0]} px, the baseline at {sides[1]}; train it at that size")
    rows = cells.all({name: partial(measure, match, name) for name in tasks})
    return {"n": match.protocol.images, "figures": {"summary": summary_of(rows), "tasks": rows}}


def time_all(match: Match, resolutions: Sequence[int], pairs: Sequence[int], cells: Cells) -> Row:
    """Seconds per query in every cell."""
    ours, found = match.engine, []
    if not can_read_once(ours.jdit):
        raise LavinditError("the context of the model in --model sees the noise, so no prompt of it can be cached")
    for px in resolutions:
        for count in pairs:
            run = partial(measure_cell, ours.vae, ours.jdit, *match.baseline.complete, px, count)
            found.append({"resolution": px, "pairs": count} | cells.row(f"{px} px, {count} pairs", run))
    return {"n": "beside each figure", "figures": {"cells": found, "baseline_takes_times_as_long": ratios(found)}}


def minutes_of(chosen: argparse.Namespace) -> float | None:
    """How long ours was trained: as said, or as its run's checkpoint says."""
    path = last_checkpoint(chosen.model)
    if chosen.model_minutes is not None or not path.exists():
        return chosen.model_minutes
    return read_checkpoint(path)["callbacks"]["TimeBudget"]["elapsed_s"] / 60


def facts_of(match: Match, chosen: argparse.Namespace) -> dict[str, Any]:
    """Who is compared."""
    (tokenizer, decoder), engine = match.baseline.complete, match.engine
    ours = {name: engine.info.get(name) for name in ("steps", "tasks", "max_pairs", "seed")}
    hashes = {"ours": file_sha256(model_folder(chosen.model) / JDIT_NAME)}
    hashes |= {"tokenizer": file_sha256(chosen.baseline / TOKENIZER)}
    hashes |= {"autoregressive": file_sha256(chosen.baseline / DECODER)}
    count = {"ours": engine.jdit, "autoregressive": decoder, "our_vae": engine.vae, "tokenizer": tokenizer}
    return {
        "parameters": {name: sum(p.numel() for p in network.parameters()) for name, network in count.items()},
        "ours": ours | {"network": asdict(engine.jdit.config), "minutes": minutes_of(chosen)},
        "autoregressive": match.baseline.info | {"network": asdict(decoder.config), "tokens": tokenizer.config.codes},
        "sha256": hashes,
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="our model directory or run folder")
    parser.add_argument("--baseline", type=Path, required=True, help="folder of the trained baseline")
    parser.add_argument("--model_minutes", type=float, help="of our training (default: as its checkpoint says)")
    parser.add_argument("--tasks", nargs="+", help="default: all built-in tasks of images")
    parser.add_argument("--protocol", default="full", help="of `lavindit benchmark`: quick or full")
    parser.add_argument("--n", type=int, help="queries a task (default: the protocol's)")
    parser.add_argument("--pairs", type=int, nargs="+", help="K (default: the protocol's); of --latency, several")
    parser.add_argument("--draws", type=int, help="draws of context (default: the protocol's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sampling", nargs="+", default=["greedy"], help="greedy, temperature, temperature/top_k")
    parser.add_argument("--val_queries", type=int, default=32, help="that the sampling of each task is chosen on")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--latency", action="store_true", help="measure seconds per query instead")
    parser.add_argument("--resolutions", type=int, nargs="+", default=list(RESOLUTIONS), help="of --latency")
    parser.add_argument("--threads", type=int, help="threads on a CPU; default: torch's")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(arguments)
    if not chosen.latency and chosen.pairs is not None and len(chosen.pairs) > 1:
        parser.error("--pairs takes several numbers with --latency alone")
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, or time, and file."""
    chosen = parse(arguments)
    use_threads(chosen.threads)
    engine = load(model_folder(chosen.model))
    for sampling in chosen.sampling:
        Sampling.parse(sampling)  # a slip is told before anything is measured
    pairs = None if chosen.latency or chosen.pairs is None else chosen.pairs[0]
    protocol = choose_protocol(
        chosen.protocol, engine.info, n=chosen.n, pairs=pairs, draws=chosen.draws, seed=chosen.seed
    )
    baseline = load_baseline(chosen.baseline)
    samplings = tuple(dict.fromkeys(chosen.sampling))
    match = Match(engine, baseline, protocol, chosen.batch_size, samplings, chosen.val_queries)
    facts = facts_of(match, chosen)
    if chosen.latency:
        made = facts | {"threads": torch.get_num_threads(), "device": "cpu"}
        cells = Cells(chosen.out, made)
        fields = time_all(match, chosen.resolutions, chosen.pairs or PAIRS, cells)
    else:
        tasks = chosen.tasks or [name for name in built_in_tasks() if not has_clips(get_task(name))]
        made = facts | {"protocol": asdict(protocol), "samplings": samplings, "val_queries": chosen.val_queries}
        cells = Cells(chosen.out, made)
        fields = compare_all(match, tasks, cells)
    file_benchmark(chosen.out, chosen.seed, made | cells.made | fields)
    cells.forget()


if __name__ == "__main__":
    run_script(main)
