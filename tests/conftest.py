"""What every test may ask for: tiny networks and model directories, the test data, the command line in process."""

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch

from example_result import make_result
from lavindit.cli import main
from lavindit.models import STVAE, JDiT, JDiTConfig, ModelBundle, STVAEConfig, save_model
from lavindit.report.schema import write_result

if TYPE_CHECKING:
    from lavindit.inference import Engine

TINY_VAE = STVAEConfig(widths=(16, 16, 16), encoder_blocks=1, decoder_blocks=1, mid_blocks=1, patch=2, norm_groups=8)
TINY_JDIT = JDiTConfig(width=64, depth=2, heads=2, queries_per_kv=1)
TINY_INFO = {"resolution": 32, "sampling": {"steps": 2}}
QUIET_BY_DEFAULT = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


class Ran(NamedTuple):
    """What a command left on the screen."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """One thread: sums in the same order on every machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of the test data; tests that need it are skipped where it is not named."""
    named = os.environ.get("LAVINDIT_TEST_DATA")
    if not named:
        pytest.skip("LAVINDIT_TEST_DATA names no folder")
    return Path(named)


def make_tiny_vae() -> STVAE:
    """A VAE of 16 channels with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return STVAE(TINY_VAE).eval()


def make_tiny_jdit(config: JDiTConfig = TINY_JDIT) -> JDiT:
    """A J-DiT of two blocks. Its zero-initialised layers are random too, or its output would be 0 whatever it reads."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = JDiT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def make_tiny_engine(mode: Any = "causal", info: dict[str, Any] = TINY_INFO) -> "Engine":
    """An engine of tiny networks, for 32 px and two steps."""
    from lavindit.inference import Engine  # not above: processes that a test starts import this file, too

    return Engine(make_tiny_vae(), make_tiny_jdit(replace(TINY_JDIT, context_attention=mode)), info)


@pytest.fixture
def tiny_vae() -> STVAE:
    """A fresh tiny VAE."""
    return make_tiny_vae()


@pytest.fixture
def tiny_jdit() -> JDiT:
    """A fresh tiny J-DiT whose output depends on all that it reads."""
    return make_tiny_jdit()


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory for 64 px and two steps; do not write to it."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    info = {"resolution": 64, "sampling": {"steps": 2}}
    save_model(ModelBundle(make_tiny_vae(), make_tiny_jdit(), info), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_vae_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that holds a VAE alone; do not write to it."""
    folder = tmp_path_factory.mktemp("tiny_vae") / "model"
    save_model(ModelBundle(make_tiny_vae(), info={"resolution": 64}), folder)
    return folder


@pytest.fixture(scope="session")
def engines() -> "dict[str, Engine]":
    """A tiny engine for each context attention; do not change them."""
    return {mode: make_tiny_engine(mode) for mode in ("prefix", "causal", "joint")}


@pytest.fixture
def negatives(tmp_path: Path) -> Path:
    """A folder of pairs: four pictures and their negatives."""
    from tiny_prompts import write_pairs

    return write_pairs(tmp_path / "negative")


@pytest.fixture
def run_cli() -> Callable[[Sequence[object]], Ran]:
    """`run_in_process`, for a test."""
    return run_in_process


def run_in_process(args: Sequence[object]) -> Ran:
    """Run `lavindit ARGS` in this process: its exit code and all that a person would see, warnings and logs too.

    A process of its own would import torch and Lightning first, which takes seconds.
    """
    arguments = [str(argument) for argument in args]
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, _log_to(stderr):
        patch.setattr(sys, "argv", ["lavindit", *arguments])
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                main(arguments)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Ran(code, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def _log_to(stream: io.StringIO) -> Iterator[None]:
    """Send warnings and the console handlers of all loggers to `stream`, as they are shown outside of pytest."""
    loggers = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    handlers = [h for logger in loggers for h in logger.handlers if type(h) is logging.StreamHandler]
    streams = [handler.setStream(stream) for handler in handlers]
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in QUIET_BY_DEFAULT:
            warnings.simplefilter("ignore", category)
        warnings.showwarning = lambda message, category, filename, lineno, file=None, line=None: stream.write(
            warnings.formatwarning(message, category, filename, lineno, line)
        )
        try:
            yield
        finally:
            for handler, before in zip(handlers, streams, strict=True):
                handler.setStream(before or sys.__stderr__)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run folder with a result that has a bit of everything."""
    write_result(make_result(tmp_path), tmp_path / "result.json")
    return tmp_path
