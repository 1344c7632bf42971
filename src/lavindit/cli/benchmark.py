"""`lavindit benchmark`: a model tested by a fixed protocol; two results compared."""

import argparse
import sys
from pathlib import Path

from lavindit.cli.progress import show_progress
from lavindit.cli.run_folder import Traces, make_writable
from lavindit.cli.tools import Parser, add_model_options, find_device, find_model, model_name, use_threads
from lavindit.errors import LavinditError
from lavindit.files import write_atomically
from lavindit.models import model_folder
from lavindit.report import write_report
from lavindit.report.compare import compare_results, read_either
from lavindit.report.compare_pages import print_comparison, render_comparison
from lavindit.report.expected import Expected, find_misses, read_expected, write_expected
from lavindit.report.schema import RESULT_NAME, RunResult
from lavindit.report.terminal import print_result
from lavindit.task import Task
from lavindit.training.benchmark import Benchmark
from lavindit.training.protocols import PROTOCOLS, built_in_tasks, choose_protocol

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}
# Of a comparison these mean nothing.
OF_A_RUN = ("model", "task", "pairs", "n", "draws", "seed", "threads", "workers", "restart", "expect", "write_expected")


def run_benchmark(arguments: list[str]) -> None:
    """Test a model, or compare two results."""
    chosen = _parser().parse_args(arguments)
    if chosen.compare is not None:
        _compare(chosen)
        return
    if chosen.out is None:
        raise LavinditError("--out RUN is missing: the folder for the result")
    if chosen.workers is not None and chosen.workers < 1:
        raise LavinditError(f"--workers must be at least 1, got {chosen.workers}")
    protocol = chosen.protocol or "quick"
    choose_protocol(protocol, {}, **_changes(chosen))  # a slip is told before anything is loaded
    expected = None if chosen.expect is None else read_expected(chosen.expect)
    use_threads(chosen.threads)
    named = find_model(chosen.model)
    benchmark = Benchmark(
        model_folder(named),
        model_name(named),
        lambda info: choose_protocol(protocol, info, **_changes(chosen)),
        chosen.task or built_in_tasks(),
        chosen.out,
        find_device(chosen.device),
        PRECISIONS[chosen.precision],
    )
    result = _measure(benchmark, chosen)
    print_result(result)
    for path in (chosen.out / RESULT_NAME, *write_report(chosen.out).values()):
        print(f"wrote {path}")
    if chosen.write_expected is not None:
        write_expected(chosen.write_expected, result, {t.name: _lasting_figure(t) for t in benchmark.all.tasks})
        print(f"wrote {chosen.write_expected}")
    if expected is not None:
        _check(result, expected, chosen)


def _measure(benchmark: Benchmark, chosen: argparse.Namespace) -> RunResult:
    """The result, with what an earlier sitting had of it."""
    done = benchmark.resume(chosen.restart)
    if done:
        print(f"lavindit: {len(done)} tasks are measured already, in {chosen.out / RESULT_NAME}", file=sys.stderr)
    traces = Traces(chosen.out)
    make_writable(chosen.out)
    try:
        with show_progress("answers", lambda n, total: f"{benchmark.task}: {n} of {total} answers") as progress:
            return benchmark.measure(progress, chosen.workers or 1)
    except LavinditError:
        traces.remove()
        raise
    except KeyboardInterrupt:
        kept = f"{len(benchmark.done)} of {len(benchmark.names)} tasks are kept in {chosen.out}"
        print(f"\nlavindit: interrupted; {kept}, and the same command goes on from there", file=sys.stderr)
        raise


def _check(result: RunResult, expected: Expected, chosen: argparse.Namespace) -> None:
    """Say which figures are not what they were, and end with 1 if any is not."""
    misses = find_misses(result, expected, chosen.expect, only=[t.task for t in result.tasks] if chosen.task else None)
    for line in misses:
        print(f"lavindit: not as expected: {line}", file=sys.stderr)
    if misses:
        sys.exit(1)
    print(f"all figures are as {chosen.expect} expects")


def _lasting_figure(task: Task) -> str:
    """The figure that a task is judged by first on every machine: it needs no weights that one may lack."""
    columns = [column for column in task.columns if not column.needs]
    return next((column.metric for column in columns if column.headline), columns[0].metric)


def _compare(chosen: argparse.Namespace) -> None:
    given = [name for name in OF_A_RUN if getattr(chosen, name) not in (None, False)]
    given += ["protocol"] if chosen.protocol is not None else []
    if given:
        raise LavinditError(f"--compare reads two results and tests nothing; leave {given[0]} out")
    if chosen.out is not None and chosen.out.is_dir():
        raise LavinditError(f"{chosen.out} is a folder; with --compare --out names a Markdown file")
    first, second = chosen.compare
    comparison = compare_results(read_either(first), read_either(second), (str(first), str(second)))
    print_comparison(comparison)
    if chosen.out is not None:
        write_atomically(chosen.out, render_comparison(comparison).encode("utf-8", "replace"))
        print(f"wrote {chosen.out}")


def _changes(chosen: argparse.Namespace) -> dict[str, int | None]:
    return {name: getattr(chosen, name) for name in ("n", "pairs", "draws", "seed")}


def _parser() -> Parser:
    parser = Parser(
        "lavindit benchmark",
        description="Test a model on the embedded world by a fixed protocol, or compare two such tests.",
    )
    parser.add_argument("protocol", nargs="?", help=f"{', '.join(PROTOCOLS)} (default quick)")
    parser.add_argument("--out", type=Path, metavar="RUN", help="folder for the result; of --compare a Markdown file")
    parser.add_argument(
        "--task", action="append", metavar="T", help="a task; may be repeated (default: all built-in ones)"
    )
    text = "pairs shown with each query (default 8 for a model trained with as many, else 4)"
    parser.add_argument("--pairs", type=int, metavar="K", help=text)
    parser.add_argument("--n", type=int, metavar="N", help="queries a task (default: the protocol's)")
    parser.add_argument("--draws", type=int, metavar="D", help="draws of pairs and noise (default: the protocol's)")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of queries, pairs and noise (default 0)")
    add_model_options(parser)
    text = "tasks measured at a time, each in a process with its share of the threads (default 1)"
    parser.add_argument("--workers", type=int, metavar="N", help=text)
    parser.add_argument("--restart", action="store_true", help="replace a result that lies in RUN")
    parser.add_argument("--expect", type=Path, metavar="FILE", help="end with 1 if a figure is not as this file says")
    parser.add_argument("--write-expected", type=Path, metavar="FILE", help="write the figures as such a file")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two runs, or result files")
    return parser
