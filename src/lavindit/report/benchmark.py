"""What the script of a benchmark files."""

import json
import sys
from pathlib import Path
from typing import Any

from lavindit.files import write_atomically
from lavindit.report.machine import current_commit, describe_machine


def file_benchmark(out: Path | None, seed: int | list[int], fields: dict[str, Any]) -> None:
    """Print a benchmark's result with how it was made, and write it as JSON where `out` names a file.

    Args:
        out: File to write; None prints alone.
        seed: Seed, or seeds.
        fields: `figures` and what else there is to say; `benchmarks/README.md` names the fields.
    """
    made = {
        "command": " ".join(["python", *sys.argv]),
        "seed": seed,
        "commit": current_commit(),
        "machine": describe_machine(),
    }
    text = json.dumps(made | fields, indent=2)
    print(text)
    if out is not None:
        write_atomically(out, (text + "\n").encode())
