"""Sends each command to its module, and tells a person's mistakes in one line."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from lavindit.errors import LavinditError
from lavindit.interrupts import interrupt_on_sigterm
from lavindit.quiet import quiet_libraries

# Command -> module of this package and function; imported when asked for, so that a mistyped command is told at once.
COMMANDS = {
    "fit": ("train", "run_trainer"),
    "validate": ("train", "run_trainer"),
    "test": ("train", "run_trainer"),
    "predict": ("train", "run_trainer"),
    "benchmark": ("benchmark", "run_benchmark"),
    "report": ("tools", "run_report"),
    "apply": ("apply", "run_apply"),
    "compile": ("compile", "run_compile"),
    "append": ("compile", "run_append"),
    "tasks": ("tasks", "run_tasks"),
    "plan": ("plan", "run_plan"),
    "encode": ("encode", "run_encode"),
    "pack": ("pack", "run_pack"),
    "import-official": ("interop", "run_import_official"),
    "export-official": ("interop", "run_export_official"),
}
USAGE = """usage: lavindit COMMAND ...

In-context vision models: show a few input-target pairs and a query; get the answer.

commands:
  fit        train a VAE or a J-DiT:          lavindit fit --config experiment/demo_jdit.yaml
  validate   losses on held-out episodes
  test       figures of every task in native units, with baselines: writes RUN/result.json
  predict    answers to the test episodes as pictures
  benchmark  a model directory by a fixed protocol:   lavindit benchmark quick --model nano --out RUN
  report     tables and one HTML page from a result:   lavindit report RUN
  apply      answer your own pictures:        lavindit apply --task depth_estimation --query photo.jpg --out answers
  compile    a task's pairs, read once for many queries:   lavindit compile --task NAME --pairs 8 --out FILE
  append     one more pair to a compiled prompt:   lavindit append --prompt FILE --input A --target B --out FILE
  tasks      the registered tasks, one of them, what it can reach at best, or a new one:   lavindit tasks new NAME
  plan       memory, FLOPs and time of a training:   lavindit plan --size 3.4b --resolution 512 --devices 64
  encode     a mixture's latents, for fast training:   lavindit encode --config experiment/demo_jdit.yaml --out DIR
  pack       a model directory ready to hand on: 16 bits, hashes, a card:   lavindit pack --model RUN --out DIR
  import-official   a model directory of released weights:   lavindit import-official --dit F --vae F --out DIR
  export-official   released weights of a model directory:   lavindit export-official --model DIR --dit F --vae F

`lavindit COMMAND --help` tells more. A --config is a file or the name of a shipped one.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; exit code 2 and one line on stderr for whatever a person can mend."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    interrupt_on_sigterm()
    try:
        _dispatch(arguments)
    except LavinditError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: list[str]) -> None:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command in ("", "-h", "--help"):
        print(USAGE, end="")
        sys.exit(0 if command else 2)
    if command in ("-V", "--version"):
        from lavindit import __version__

        print(f"lavindit {__version__}")
    elif command in COMMANDS:
        _prepare(arguments)
        module, function = COMMANDS[command]
        getattr(import_module(f"lavindit.cli.{module}"), function)(arguments if module == "train" else rest)
    else:
        _fail(f"unknown command {command!r}; there are {', '.join(COMMANDS)}")


def _prepare(arguments: list[str]) -> None:
    """Remember the command for results, and keep what libraries say about themselves off a person's screen."""
    from lavindit.report import note_command

    note_command(arguments)
    quiet_libraries()


def _fail(message: str) -> None:
    print(f"lavindit: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
