"""The Task contract, the registry, and folders as tasks."""

from lavindit.task.contract import Column, Task
from lavindit.task.folder import FolderTask
from lavindit.task.registry import all_tasks, get_task
from lavindit.task.restoration import RestorationTask

__all__ = ["Column", "FolderTask", "RestorationTask", "Task", "all_tasks", "get_task"]
