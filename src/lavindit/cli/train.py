"""`lavindit fit | validate | test | predict`: LightningCLI, and what every run gets."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from lavindit.cli.configs import expand_configs
from lavindit.data import EpisodeData
from lavindit.errors import LavinditError
from lavindit.report.schema import RESULT_NAME, read_result
from lavindit.report.terminal import print_result
from lavindit.training import DiTModule, VAEModule  # noqa: F401 - short class names in configs
from lavindit.training.callbacks import (
    MODEL,
    AtomicCheckpointIO,
    FinalState,
    PredictionWriter,
    ProgressLines,
    checkpoint_callback,
    last_checkpoint,
)
from lavindit.training.schedule import TimeBudget


class LavinditCLI(LightningCLI):
    """LightningCLI with run folders that resume."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of every run."""
        parser.add_lightning_class_args(TimeBudget, "budget")
        parser.add_argument("--checkpoint_every", type=int, default=200, help="Steps between checkpoints.")
        parser.add_argument("--restart", type=bool, default=False, help="Start anew where a checkpoint is found.")
        parser.add_argument("--threads", type=int | None, default=None, help="CPU threads; default: torch's own.")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer with our loggers, callbacks and checkpoint files."""
        threads = self._get(self.config_init, "threads")
        if threads:
            torch.set_num_threads(threads)
        run = Path(self._get(self.config_init, "trainer")["default_root_dir"] or "runs/unnamed")
        _make_writable(run)
        kwargs["default_root_dir"] = str(run)
        fitting = self.subcommand == "fit"
        bar = RichProgressBar() if sys.stderr.isatty() else ProgressLines()
        extra: list[Any] = [bar, PredictionWriter()]
        if fitting:
            extra += [checkpoint_callback(run, self._get(self.config_init, "checkpoint_every")), FinalState()]
            kwargs["logger"] = [TensorBoardLogger(str(run), name="tensorboard"), CSVLogger(str(run), name="csv")]
        else:
            kwargs["logger"] = False
        self.trainer_defaults["callbacks"] = extra
        kwargs["plugins"] = [*(self._get(self.config_init, "trainer").get("plugins") or []), AtomicCheckpointIO()]
        kwargs["enable_progress_bar"] = sys.stderr.isatty()
        kwargs["enable_model_summary"] = False
        return super().instantiate_trainer(**kwargs)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        path = last_checkpoint(self.trainer.default_root_dir)
        if kwargs.get("ckpt_path") is None:
            if subcommand == "fit":
                if path.is_file() and not self._get(self.config, "restart"):
                    kwargs["ckpt_path"] = str(path)
                    print(f"lavindit: going on from {path}", file=sys.stderr)
            elif path.is_file():
                kwargs["ckpt_path"] = str(path)
            else:
                raise LavinditError(f"no checkpoint {path}; run `lavindit fit` first, or name one with --ckpt_path")
        elif not Path(kwargs["ckpt_path"]).is_file():
            raise LavinditError(f"no checkpoint {kwargs['ckpt_path']}")
        return kwargs

    def after_fit(self) -> None:
        """Say where the model is."""
        if self.trainer.is_global_zero:
            run = Path(self.trainer.default_root_dir)
            print(f"trained {self.trainer.global_step} steps; model in {run / MODEL}")

    def after_test(self) -> None:
        """Show the result."""
        if self.trainer.is_global_zero:
            run = Path(self.trainer.default_root_dir)
            print_result(read_result(run / RESULT_NAME))
            print(f"result in {run / RESULT_NAME}; `lavindit report {run}` makes pages of it")

    def after_predict(self) -> None:
        """Say where the answers are."""
        if self.trainer.is_global_zero:
            print(f"answers in {Path(self.trainer.default_root_dir) / 'predictions'}")


def run_trainer(arguments: list[str]) -> None:
    """Run one of the trainer's commands.

    Raises:
        LavinditError: For what a person can mend.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.argv = [sys.argv[0], *expand_configs(arguments)]  # LightningCLI wants its arguments there
    LavinditCLI(
        LightningModule,
        EpisodeData,
        subclass_mode_model=True,
        save_config_callback=SaveConfigCallback,
        save_config_kwargs={"overwrite": True},
        auto_configure_optimizers=False,
        seed_everything_default=0,
        trainer_defaults={"default_root_dir": "runs/unnamed", "use_distributed_sampler": False},
    )


def _make_writable(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        probe = run / ".lavindit-write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise LavinditError(f"cannot write to the run folder {run}: {error.strerror or error}") from error
