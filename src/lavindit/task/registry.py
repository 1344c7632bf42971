"""THE registry of tasks: built-in plugins, installed plugins, and explicit paths."""

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Collection, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from lavindit.errors import LavinditError, describe_failure
from lavindit.task.contract import Task
from lavindit.task.folder import FolderTask

BUILT_IN = "lavindit_tasks"
ENTRY_POINTS = "lavindit.tasks"

_found: dict[str, Task] | None = None


def all_tasks() -> dict[str, Task]:
    """Every registered task by name: the built-in ones and those of installed packages.

    Raises:
        LavinditError: A plugin does not import, breaks the contract, or takes a name that is taken.
    """
    global _found
    if _found is None:
        tasks: dict[str, Task] = {}
        package = importlib.import_module(BUILT_IN)
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
            origin = f"{package.__path__[0]}/{info.name}.py"
            _add(tasks, _task_of(_import(f"{BUILT_IN}.{info.name}", origin), origin), origin)
        for point in entry_points(group=ENTRY_POINTS):
            origin = f"entry point {point.name} ({point.value})"
            _add(tasks, _task_of(_import(point.module, origin), origin), origin)
        _found = tasks
    return _found


def check_task_names(option: str, named: Iterable[str], in_use: Collection[str]) -> None:
    """Refuse names of tasks that nobody knows, which are slips; a registered task may be named without being in use.

    Args:
        option: Where they stand, for the message.
        named: The names.
        in_use: Names of the tasks in use.

    Raises:
        LavinditError: There is no such task.
    """
    for name in sorted(set(named) - set(in_use) - set(all_tasks())):
        near = difflib.get_close_matches(name, all_tasks(), n=1)
        raise LavinditError(f"{option}: no task {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def refuse_twins(tasks: Sequence[Task]) -> None:
    """Refuse two tasks of one name.

    Raises:
        LavinditError: Two have the same.
    """
    names = [task.name for task in tasks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LavinditError(f"two tasks are named {twice[0]}; name each once, and rename one of two folders")


def get_task(name: str | Path) -> Task:
    """The task of a registered name, of a plugin file `*.py`, or of a folder of pairs.

    A registered name wins over a folder of that name, which `./NAME` still names.

    Raises:
        LavinditError: There is none; the message offers names that are near.
    """
    path = Path(name)
    if path.suffix == ".py" and path.is_file():
        return _task_of(_import_file(path), str(path))
    if path.is_dir() and str(name) not in all_tasks():
        return FolderTask(path)
    tasks = all_tasks()
    if str(name) in tasks:
        return tasks[str(name)]
    if path.is_file():
        raise LavinditError(
            f"{name} is a file, but no plugin (*.py): a task is a name, a plugin or a folder of pairs; a compiled "
            "prompt is asked with --prompt, in Python with load_prompt"
        )
    near = (
        [f"./{name}.py"]
        if Path(f"{name}.py").is_file()
        else difflib.get_close_matches(str(name), tasks, n=3, cutoff=0.4)
    )
    hint = f"did you mean {' or '.join(near)}?" if near else "`lavindit tasks` lists them"
    raise LavinditError(f"unknown task {str(name)!r}, and no such folder or plugin file: {hint}")


def _add(tasks: dict[str, Task], task: Task, origin: str) -> None:
    if task.name in tasks:
        raise LavinditError(f"two tasks are named {task.name!r}; rename the one in {origin}")
    tasks[task.name] = task


def _import(module: str, origin: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise LavinditError(f"task plugin {origin} fails to import: {describe_failure(error)}") from error


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise LavinditError(f"task plugin {path} fails to import: {describe_failure(error, path)}") from error
    return module


def _task_of(module: ModuleType, origin: str) -> Task:
    defined = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Task) and value.__module__ == module.__name__
    ]
    classes = [value for value in defined if not inspect.isabstract(value)]
    if len(defined) == 1 and not classes:
        methods = ", ".join(sorted(defined[0].__abstractmethods__))
        raise LavinditError(f"task plugin {origin}: {defined[0].__name__} lacks {methods}")
    if len(classes) != 1:
        raise LavinditError(f"task plugin {origin} must define exactly one Task class, it defines {len(classes)}")
    task = classes[0]()
    stem = module.__name__.rsplit(".", 1)[-1]
    if getattr(task, "name", None) != stem:
        raise LavinditError(f"task plugin {origin} must set name = {stem!r}, the name of its file")
    missing = [field for field in ("version", "summary", "columns") if not hasattr(task, field)]
    if missing:
        raise LavinditError(f"task plugin {origin} lacks {', '.join(missing)}")
    if sum(column.headline for column in task.columns) != 1:
        raise LavinditError(f"task plugin {origin} must mark exactly one column as headline")
    return task
