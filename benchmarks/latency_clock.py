"""Seconds and memory of the calls that `latency.py` compares."""

import time
from collections.abc import Callable
from itertools import accumulate
from statistics import median
from typing import Any

import torch

ROUNDS = ((5.0, 5), (15.0, 3))  # calls shorter than so many seconds are repeated so often
Call = Callable[[], Any]
Figures = dict[str, Any]


def seconds_of(call: Call) -> float:
    """Of one call, to the end of the device's work."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def first_call(call: Call, device: str) -> tuple[float, float]:
    """Seconds of a call that warms up, and the peak of memory that it takes in MiB."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        seconds = seconds_of(call)
        return seconds, (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        seconds = seconds_of(call)
    records: Any = profile.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    changes = sorted((e.start_ns(), e.nbytes()) for e in records if e.name() == "[memory]")
    return seconds, max(accumulate(change for _, change in changes)) / 2**20


def peak_of(call: Call, device: str) -> float:
    """Peak of memory that a call takes in MiB."""
    return first_call(call, device)[1]


def time_in_turn(calls: dict[str, Call], device: str) -> dict[str, Figures]:
    """Median seconds of each call, how often it was timed, its first call and its peak of memory."""
    firsts = {name: first_call(call, device) for name, call in calls.items()}
    rounds = {name: next((n for limit, n in ROUNDS if s < limit), 0) for name, (s, _) in firsts.items()}
    times: dict[str, list[float]] = {name: [] if rounds[name] else [firsts[name][0]] for name in calls}
    for turn in range(max(rounds.values())):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            if turn < rounds[name]:
                times[name].append(seconds_of(calls[name]))
    return {
        name: {"s": median(values), "n": len(values), "first_s": firsts[name][0], "peak_mib": firsts[name][1]}
        for name, values in times.items()
    }


def lap(parts: dict[str, float], name: str, call: Call) -> Any:
    """Run a part of a query and add its seconds."""
    found: list[Any] = []
    parts[name] = parts.get(name, 0.0) + seconds_of(lambda: found.append(call()))
    return found[0]
