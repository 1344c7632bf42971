"""The Task contract, the registry, kinds of tasks, the choice of context, and folders as tasks."""

from lavindit.task.contract import Column, Task, give_back_detail, keep_known
from lavindit.task.estimation import DepthTask, NormalTask
from lavindit.task.folder import FolderTask
from lavindit.task.generation import GenerationTask
from lavindit.task.registry import all_tasks, check_task_names, get_task, refuse_twins
from lavindit.task.restoration import RestorationTask
from lavindit.task.segments import InstanceTask

__all__ = [
    "Column",
    "DepthTask",
    "FolderTask",
    "GenerationTask",
    "InstanceTask",
    "NormalTask",
    "RestorationTask",
    "Task",
    "all_tasks",
    "check_task_names",
    "get_task",
    "give_back_detail",
    "keep_known",
    "refuse_twins",
]
