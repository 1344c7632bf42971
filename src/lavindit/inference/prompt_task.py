"""The task of a prompt on disk: how a file names it, and how it is found again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import torch

from lavindit.codecs import Codec
from lavindit.errors import LavinditError
from lavindit.inference.prompt import Prompt
from lavindit.task import FolderTask, Task, all_tasks, get_task
from lavindit.types import Pair, Scene

if TYPE_CHECKING:
    from lavindit.metrics.base import RowMetric


@dataclass(frozen=True)
class TaskNote:
    """What a file says of a task.

    Attributes:
        kind: "registered", "plugin" (a file) or "folder" (of pairs).
        named: Registered name, or the place of file or folder.
        name: Of the task.
        version: Of the task.
        context: How its pairs are chosen where nothing else is asked for.
        input_frames: Of a query.
        target_frames: Of an answer.
    """

    kind: Literal["registered", "plugin", "folder"]
    named: str
    name: str
    version: int
    context: str
    input_frames: int
    target_frames: int


class CompiledTask(Task):
    """A folder's task of which a prompt is left and no folder: it can be asked, and shows no pairs.

    Args:
        note: What the prompt says of it.
    """

    requires = frozenset({"target"})
    columns = ()

    def __init__(self, note: TaskNote) -> None:
        self.note, self.name = note, note.name
        summary = f"Pairs of the folder {note.named}, compiled."
        modality = "image" if note.target_frames == 1 else "video"
        vars(self).update(version=note.version, summary=summary, context=note.context, modality=modality)

    @property
    def input_frames(self) -> int:
        """Frames of an input."""
        return self.note.input_frames

    @property
    def target_frames(self) -> int:
        """Frames of a target."""
        return self.note.target_frames

    def make_source(self, split: str, resolution: int) -> NoReturn:
        """Refuses: there are no scenes."""
        raise self._compiled()

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """Refuses: the codec is the prompt's."""
        raise self._compiled()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Refuses: there are no scenes."""
        raise self._compiled()

    def make_metric(self) -> "RowMetric":
        """Refuses: there is nothing to score by."""
        raise self._compiled()

    def _compiled(self) -> LavinditError:
        return LavinditError(f"the pairs of {self.name} are compiled, and {self.note.named} is gone: ask its prompt")


def note_task(prompt: Prompt) -> TaskNote:
    """What a file is to say of a prompt's task.

    Raises:
        LavinditError: It was handed over as an object of a class of one's own.
    """
    task = prompt.task
    if isinstance(task, CompiledTask):
        return task.note
    if isinstance(task, FolderTask):
        kind, named = "folder", str(task.folder.resolve())
    elif type(all_tasks().get(task.name)) is type(task):
        kind, named = "registered", task.name
    elif prompt.named is not None and Path(prompt.named).is_file():
        kind, named = "plugin", str(Path(prompt.named).resolve())
    else:
        raise LavinditError(
            f"a file cannot say where the task {task.name} is found: compile it by its registered name, plugin file or "
            "folder, or keep its prompt in memory"
        )
    return TaskNote(kind, named, task.name, task.version, task.context, task.input_frames, task.target_frames)


def find_task(note: TaskNote, plugin: Path | str | None = None) -> Task:
    """The task of a note. A folder that is gone, or holds pairs no longer, is not needed: the prompt has all of it.

    Args:
        note: What the prompt says of it.
        plugin: Of a plugin's task, its file. A prompt does not choose which code is run: who reads it does.

    Raises:
        LavinditError: It is not here, or has another version or other frames.
    """
    task = _find(note, plugin)
    here = (task.version, task.input_frames, task.target_frames)
    if task.name != note.name:
        raise LavinditError(f"the prompt is of the task {note.name}, {plugin} holds {task.name}; name another file")
    if here != (note.version, note.input_frames, note.target_frames):
        raise LavinditError(
            f"the prompt is of version {note.version} of the task {note.name} ({note.input_frames} frames in, "
            f"{note.target_frames} out), here is version {here[0]} ({here[1]} in, {here[2]} out); compile it again"
        )
    return task


def _find(note: TaskNote, plugin: Path | str | None) -> Task:
    if plugin is not None and note.kind != "plugin":
        raise LavinditError(f"the prompt's task {note.name} is no plugin's; leave --plugin out")
    if note.kind == "folder":
        try:
            return FolderTask(note.named)
        except LavinditError:
            return CompiledTask(note)
    if note.kind == "plugin":
        if plugin is None:
            raise LavinditError(f"the prompt is of a task of the plugin file {note.named}; name it with --plugin")
        return get_task(plugin)
    if note.name not in all_tasks():
        raise LavinditError(f"the prompt is of the task {note.name!r}, which is not registered here; install it")
    return all_tasks()[note.name]
