"""Foreground segmentation as a task to train on, for `unseen_task.py` alone; the built-in one is held out."""

from lavindit_tasks.foreground_segmentation import ForegroundSegmentation


class SeenForeground(ForegroundSegmentation):
    """The same pairs under another name, not held out."""

    name = "seen_foreground"
    held_out = False
