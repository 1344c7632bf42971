"""What a run ran on: the machine and the commit. Nothing here raises, and nothing takes long."""

import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

GIT_TIMEOUT_S = 3.0
_command: list[str] = []
# A new file there changes what runs, though git does not track it yet; elsewhere it is a person's own business.
CODE_FOLDERS = ("src/", "tasks/", "configs/")


def describe_machine() -> dict[str, Any]:
    """CPU model, usable cores, memory in GiB, GPU name if any, and the versions of Python and torch."""
    memory_gib = _memory_gib()
    return {
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "memory_gib": None if memory_gib is None else round(memory_gib, 1),
        "gpu": _gpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def current_command() -> str:
    """The command line of this process, as a person would type it again."""
    words = _command or sys.argv[1:]
    return shlex.join(["lavindit", *words])


def note_command(words: Sequence[str]) -> None:
    """Remember the command line as it was typed, before anything rewrites it."""
    global _command
    _command = list(words)


def current_commit() -> str | None:
    """Short git hash of the checkout that this package is in, "-dirty" if it was changed; None outside one."""
    here = Path(__file__).resolve()
    # A package installed below somebody else's checkout must not take that one's commit for its own.
    if _git("ls-files", "--error-unmatch", str(here)) is None:
        return None
    commit = _git("rev-parse", "--short", "HEAD")
    if not commit:
        return None
    status = _git("status", "--porcelain")
    if status is None:
        return commit
    return f"{commit}-dirty" if any(_touches_code(line) for line in status.splitlines()) else commit


def _touches_code(status_line: str) -> bool:
    """A tracked file changed, or a new one lies where code lives."""
    return not status_line.startswith("??") or status_line[3:].strip('"').startswith(CODE_FOLDERS)


def _git(*arguments: str) -> str | None:
    """What git prints, run in this folder; None if it fails, is missing or takes long."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).resolve().parent,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip()


def _cpu_model() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = (_read("/sys/fs/cgroup/cpu.max") or "").strip().partition(" ")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def _memory_gib() -> float | None:
    """Memory of the machine, or of its container where that is less."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = (_read("/sys/fs/cgroup/memory.max") or "").strip()
    return (min(memory, int(limit)) if limit.isdigit() else memory) / 2**30


def _gpu_name() -> str | None:
    try:
        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            name = torch.cuda.get_device_name(0)
            return name if count == 1 else f"{count} x {name}"
        return "Apple GPU (MPS)" if torch.backends.mps.is_available() else None
    except Exception:  # a broken driver is no reason to lose the results
        return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None
