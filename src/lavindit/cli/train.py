"""`lavindit fit | validate | test | predict`: LightningCLI, and what every run gets."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import StrategyRegistry
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import distributed

from lavindit.cli.configs import expand_configs
from lavindit.cli.options import Parser, essence, mistakes_in
from lavindit.cli.run_folder import LOGS, Traces, make_writable
from lavindit.cli.tools import use_threads
from lavindit.data import EpisodeData
from lavindit.errors import LavinditError
from lavindit.files import settle
from lavindit.report.schema import RESULT_NAME, read_result
from lavindit.report.terminal import print_result
from lavindit.training import DiTModule, VAEModule  # noqa: F401 - short class names in configs
from lavindit.training.callbacks import (
    MODEL,
    FinalState,
    PredictionWriter,
    ProgressBar,
    ProgressLines,
    TerminationHandler,
    checkpoint_callback,
)
from lavindit.training.checkpoints import AtomicCheckpointIO, last_checkpoint
from lavindit.training.parallel import FSDP1, FSDP2
from lavindit.training.schedule import TimeBudget
from lavindit.training.throughput import Throughput

# What gloo and NCCL say when the process at the other end is gone.
PEER_GONE = ("closed by peer", "reset by peer", "Broken pipe", "remote process exited")


class SaveRunConfig(SaveConfigCallback):
    """Keeps the composed config of a training in RUN/config.yaml, once a step of it is really taken."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write nothing yet: the run may be at its end already."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Write it before the first step of this sitting."""
        if not self.already_saved and trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "config.yaml"
            self.parser.save(self.config, str(path), skip_none=False, overwrite=True, multifile=False)
            self.already_saved = True


class LavinditCLI(LightningCLI):
    """LightningCLI with run folders that resume.

    Args:
        command: The command line as it was given; Lightning starts further processes with it.
        *args: For LightningCLI.
        **kwargs: For LightningCLI.
    """

    traces: Traces | None = None

    def __init__(self, command: list[str], *args: Any, **kwargs: Any) -> None:
        self.command = command
        LavinditCLI.traces, FinalState.trained = None, False
        super().__init__(*args, **kwargs)

    def parse_arguments(self, *args: Any, **kwargs: Any) -> None:
        """Parse; then the command line is itself again."""
        super().parse_arguments(*args, **kwargs)
        sys.argv = self.command

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of every run."""
        parser.add_lightning_class_args(TimeBudget, "budget")
        parser.add_argument("--checkpoint_every", type=int, default=200, help="Steps between checkpoints.")
        parser.add_argument("--restart", type=bool, default=False, help="Start anew where a checkpoint is found.")
        parser.add_argument(
            "--peak_tflops", type=float | None, default=None, help="Peak of one device for MFU; default: by its name."
        )
        parser.add_argument("--threads", type=int | None, default=None, help="CPU threads; default: torch's own.")

    def instantiate_classes(self) -> None:
        """Data, model and trainer as the config says; whatever they refuse is a mistake in the config."""
        try:
            super().instantiate_classes()
        except (ValueError, MisconfigurationException) as error:
            raise LavinditError(essence(str(error))) from error

    def _parse_ckpt_path(self) -> None:
        """Leave the checkpoint alone: ours hold no hyperparameters, and `AtomicCheckpointIO` tells what is wrong."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer with our loggers, callbacks and checkpoint files."""
        options, threads = self._get(self.config_init, "trainer"), self._get(self.config_init, "threads")
        _check_strategy(options["strategy"])
        use_threads(threads)
        run = self._run_folder()
        LavinditCLI.traces = Traces(run)
        make_writable(run)
        kwargs["default_root_dir"] = str(run)
        if options["precision"] is None and (options["accelerator"] == "cpu" or not torch.cuda.is_available()):
            kwargs["precision"] = cpu_precision()
        fitting = self.subcommand == "fit"
        bar = ProgressBar() if sys.stderr.isatty() else ProgressLines()
        extra: list[Any] = [bar, TerminationHandler(), PredictionWriter()]
        if fitting:
            every = self._get(self.config_init, "checkpoint_every")
            extra += [
                checkpoint_callback(run, every),
                FinalState(),
                Throughput(self._get(self.config_init, "peak_tflops")),
            ]
            kwargs["logger"] = [TensorBoardLogger(str(run), name=LOGS[0]), CSVLogger(str(run), name=LOGS[1])]
        else:
            kwargs["logger"] = False
        self.trainer_defaults["callbacks"] = extra
        kwargs["plugins"] = list(options.get("plugins") or [])
        strategy = options.get("strategy")
        if strategy not in ("fsdp", "fsdp2") and not isinstance(strategy, FSDP1 | FSDP2):  # they write their own
            kwargs["plugins"].append(AtomicCheckpointIO())
        kwargs["enable_progress_bar"] = sys.stderr.isatty()
        kwargs["enable_model_summary"] = False
        return super().instantiate_trainer(**kwargs)

    def before_instantiate_classes(self) -> None:
        """Find the checkpoint, before a run folder is made for nothing."""
        self.checkpoint = self._find_checkpoint()

    def _find_checkpoint(self) -> str | None:
        named = self._get(self.config, "ckpt_path")
        if named is not None:
            if not Path(named).exists():
                raise LavinditError(f"no checkpoint {named}; leave --ckpt_path out to take the run's own")
            return str(named)
        path = last_checkpoint(self._run_folder())
        settle(path)
        if self.subcommand == "fit":
            return str(path) if path.exists() and not self._get(self.config, "restart") else None
        if path.exists():
            return str(path)
        if getattr(self._get(self.config, "model").get("init_args"), "init_from", None):
            return None  # the model directory is what is asked
        raise LavinditError(
            f"no checkpoint {path}; run `lavindit fit` first, name one with --ckpt_path, or a model directory with "
            "--model.init_args.init_from"
        )

    def _run_folder(self) -> Path:
        return Path(self._get(self.config, "trainer")["default_root_dir"] or "runs/unnamed")

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand == "fit" and self.checkpoint and kwargs.get("ckpt_path") is None:
            print(f"lavindit: going on from {self.checkpoint}", file=sys.stderr)
        return kwargs | {"ckpt_path": self.checkpoint}

    def after_fit(self) -> None:
        """Say where the model is."""
        if self.trainer.is_global_zero:
            run, step = Path(self.trainer.default_root_dir), self.trainer.global_step
            if FinalState.trained:
                print(f"trained to step {step}; model in {run / MODEL}")
            else:
                print(
                    f"nothing to train: {run} is at its end, step {step}; more --trainer.max_steps or --budget.minutes "
                    "goes on, --restart true starts anew"
                )

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


def _check_strategy(strategy: Any) -> None:
    """Refuse a strategy that is not there, or not without a GPU."""
    known = [name for name in StrategyRegistry.available_strategies() if not name.startswith(("deepspeed", "xla"))]
    if isinstance(strategy, str) and strategy not in ("auto", *StrategyRegistry.available_strategies()):
        raise LavinditError(f"no strategy {strategy!r}; there are {', '.join(sorted(known))}")
    if (strategy == "fsdp" or isinstance(strategy, FSDP1)) and not torch.cuda.is_available():
        raise LavinditError("strategy fsdp needs a GPU; fsdp2 works on CPUs, too")


def cpu_precision() -> str:
    """The faster precision of this CPU: without instructions for bf16 it is emulated, and slower than float32."""
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if native else "32-true"


def run_trainer(arguments: list[str]) -> None:
    """Run one of the trainer's commands.

    Raises:
        LavinditError: For what a person can mend.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    given = list(sys.argv)
    # LightningCLI wants its arguments there.
    sys.argv = [sys.argv[0], *name_tasks(expand_configs(arguments))]
    try:
        with mistakes_in(arguments, arguments[0]):
            LavinditCLI(
                given,
                LightningModule,
                EpisodeData,
                subclass_mode_model=True,
                parser_class=Parser,
                save_config_callback=SaveRunConfig,
                auto_configure_optimizers=False,
                # An abbreviated option is more often a typo: --trainer.max_step would set max_steps.
                parser_kwargs={"allow_abbrev": False},
                seed_everything_default=0,
                trainer_defaults={"default_root_dir": "runs/unnamed", "use_distributed_sampler": False},
            )
    except LavinditError:
        if LavinditCLI.traces is not None and not FinalState.trained:
            LavinditCLI.traces.remove()
        raise
    except RuntimeError as error:
        if any(words in str(error) for words in PEER_GONE):
            raise LavinditError("another process of this run has stopped; its own message says why") from error
        raise
    except SystemExit as end:
        if end.code == 1:  # so Lightning ends an interrupted run; main() knows what to say of an interruption
            raise KeyboardInterrupt from None
        raise
    else:
        _leave_group()


def _leave_group() -> None:
    """End this process's part in a group of processes, once all of them are done, and the process with it.

    It ends without Python's clean-up: threads of torch that are still alive then are killed inside C++, which now and
    then aborted a process that had done its work.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    processes = distributed.get_world_size()
    distributed.barrier()
    distributed.destroy_process_group()
    if processes > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def name_tasks(arguments: list[str]) -> list[str]:
    """Write `--task A --task B` as `--data.tasks=[A,B]`, and `--data.root P` as `--data.source.root P`."""
    tasks: list[str] = []
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        name, equals, value = waiting.pop(0).partition("=")
        if name == "--task":
            if not equals and not waiting:
                raise LavinditError("--task needs a task, a plugin file or a folder")
            tasks.append(value if equals else waiting.pop(0))
        else:
            short = {"--data.root": "--data.source.root"}.get(name, name)
            rest.append(short + equals + value)
    return rest + ([f"--data.tasks={json.dumps(tasks)}"] if tasks else [])
