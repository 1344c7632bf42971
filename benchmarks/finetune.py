r"""What a short training on a folder of pairs brings: nano before and after, asked about a task that it never saw.

    python benchmarks/finetune.py --photos runs/photos --run runs/finetune --out benchmarks/results/finetune.json

The task is the negative of a photograph: 36 pairs to train on, 12 in test/. `lavindit fit --config
experiment/nano_finetune.yaml --task FOLDER` trains for --minutes; `lavindit test` asks both models about the 12, with
pairs of the 36 as context. An interrupted training goes on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cells import Row, run_script
from studies import headline_row

# isort: split
import torch

from lavindit.cli import main as lavindit_command
from lavindit.errors import LavinditError
from lavindit.pictures import list_images, load_picture, save_picture
from lavindit.report import file_benchmark
from lavindit.report.schema import RESULT_NAME, read_result
from lavindit.training.checkpoints import last_checkpoint, read_checkpoint

CONFIG = "experiment/nano_finetune.yaml"
PAIRS, QUERIES = 36, 12


def make_folder(photos: Path, folder: Path) -> None:
    """Pairs of photographs, spread over all there are, and their negatives.

    Raises:
        LavinditError: There are too few photographs.
    """
    found = list_images(photos)
    wanted = PAIRS + QUERIES
    if len(found) < wanted:
        raise LavinditError(f"{photos} holds {len(found)} photographs; {wanted} or more are needed")
    for number, path in enumerate(found[:: len(found) // wanted][:wanted]):
        where = folder / "test" if number % (wanted // QUERIES) == 0 else folder
        picture = load_picture(path)
        save_picture(picture, where / f"{number:02}_input.png")
        save_picture(1 - picture, where / f"{number:02}_target.png")


def ask(folder: Path, run: Path) -> Row:
    """The headline of the model of a run, or of nano where it has trained nothing."""
    lavindit_command(["test", "--config", CONFIG, "--task", str(folder), "--trainer.default_root_dir", str(run)])
    (result,) = read_result(run / RESULT_NAME).tasks
    return headline_row(result) | {"ceiling": result.headline.ceiling, "sampling": result.sampling}


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask, train, ask again, file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(arguments)
    folder, trained = chosen.run / "negative", chosen.run / "trained"
    if not folder.is_dir():
        make_folder(chosen.photos, folder)
    before = ask(folder, chosen.run / "before")
    lavindit_command([
        "fit", "--config", CONFIG, "--task", str(folder), "--trainer.default_root_dir", str(trained),
        "--budget.minutes", str(chosen.minutes),
    ])  # fmt: skip
    steps = read_checkpoint(last_checkpoint(trained))["global_step"]
    figures = {"before": before, "after": ask(folder, trained), "steps": steps}
    said = {"minutes": chosen.minutes, "pairs": PAIRS, "threads": torch.get_num_threads(), "config": CONFIG}
    file_benchmark(chosen.out, 0, said | {"n": QUERIES, "figures": figures})


if __name__ == "__main__":
    run_script(main)
