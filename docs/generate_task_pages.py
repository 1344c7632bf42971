"""Writes the page and the picture of every built-in task, from its class: `python docs/generate_task_pages.py`.

That is docs/tasks/NAME.md, docs/tasks/pictures/NAME.png and the table docs/tasks/README.md. With `--check` nothing is
written; the exit code is 1 if a file is missing or out of date.
"""

import argparse
import io
import math
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lavindit.codecs import Codec
from lavindit.data import EpisodeMaker, SourceConfig
from lavindit.files import write_atomically
from lavindit.pictures import load_picture, to_eight_bit
from lavindit.task import GenerationTask, Task, all_tasks
from lavindit.types import Episode

FOLDER = Path(__file__).parent / "tasks"
BUILT_IN = "lavindit_tasks."
SCENE, FRAMES_SHOWN = 9, 4
IMAGE_PX, CLIP_PX, GAP_PX = 128, 80, 2
TOLERANCE = 2 / 255
LARGEST_SHARE = 0.01
"""Pixels that may differ by more: on another machine an edge may fall into the next pixel."""


def example_of(task: Task) -> Episode:
    """The episode that a task's page shows: one query, no context, always the same."""
    side = IMAGE_PX if max(task.input_frames, task.target_frames) == 1 else CLIP_PX
    config = SourceConfig(resolution=side, scenes=1, clips=1, test_scenes=2 * SCENE, test_clips=2 * SCENE)
    maker = EpisodeMaker(task, "test", config)
    return maker.episode(maker.next_accepted(SCENE), 0, seed=0)


def draw_pair(episode: Episode) -> Tensor:
    """Input and target as one picture [3, 1, H, W]: side by side, of clips one above the other, four frames of each."""
    halves = [_film(episode.query.input), _film(episode.query.target)]
    if max(half.shape[3] for half in halves) == episode.query.input.shape[3]:
        return torch.cat([halves[0], _gap(halves[0].shape[2], GAP_PX), halves[1]], 3)
    width = max(half.shape[3] for half in halves)
    rows = [torch.cat([half, _gap(half.shape[2], width - half.shape[3])], 3) for half in halves]
    return torch.cat([rows[0], _gap(GAP_PX, width), rows[1]], 2)


def _film(picture: Tensor) -> Tensor:
    """Frames [3, T, H, W] side by side, of a clip the first, the last and two between them."""
    shown = torch.linspace(0, picture.shape[1] - 1, min(FRAMES_SHOWN, picture.shape[1])).round().int().tolist()
    parts = [part for index in shown for part in (_gap(picture.shape[2], GAP_PX), picture[:, index : index + 1])]
    return torch.cat(parts[1:], 3)


def _gap(height: int, width: int) -> Tensor:
    return torch.ones(3, 1, height, width)


def to_png(picture: Tensor) -> bytes:
    """A picture [3, 1, H, W] as a small PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(to_eight_bit(picture)[:, 0].permute(1, 2, 0).numpy()).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def is_alike(path: Path, picture: Tensor) -> bool:
    """Whether a file shows this picture; bytes and last bits may differ."""
    if not path.is_file():
        return False
    there, wanted = load_picture(path), to_eight_bit(picture).float() / 255
    if there.shape != wanted.shape:
        return False
    off = (there - wanted).abs().amax(0) > TOLERANCE + 1e-6
    return float(off.float().mean()) <= LARGEST_SHARE


def render_page(task: Task, episode: Episode) -> str:
    """The page of one task as Markdown."""
    assert isinstance(episode.codec, Codec)
    blocks = [
        f"# {task.name}",
        task.summary,
        f"![Input and target]({_picture_name(task)})",
        _caption(task),
        _facts(task),
        "## Figures",
        _columns(task),
        _headline_note(task),
        task.protocol,
        "How each figure is computed: [metrics.md](../metrics.md).",
        "## Picture and native values",
        _codec(episode.codec),
        "## Try it",
        _commands(task),
        _query_note(task),
        f"Code: [tasks/{task.name}.py](../../tasks/{task.name}.py). "
        "This page is written by `python docs/generate_task_pages.py`.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def render_table(tasks: list[Task]) -> str:
    """The table of all tasks as Markdown."""
    rows = [
        (
            f"[{task.name}]({task.name}.md)",
            task.summary,
            _frames(task),
            f"`{next(column.metric for column in task.columns if column.headline)}`",
            "held out" if task.held_out else "trained",
        )
        for task in sorted(tasks, key=lambda task: (task.modality, task.held_out, task.name))
    ]
    held_out = sum(task.held_out for task in tasks)
    clips = sum(task.modality == "video" for task in tasks)
    blocks = [
        "# Tasks",
        f"{len(tasks)} tasks: {len(tasks) - clips} of images, {clips} of clips; {held_out} of them held out.",
        _table(("Task", "What it asks for", "Frames", "Headline", "Training"), rows),
        "Where the weights that a headline needs are missing, the first figure that needs none takes its place; each "
        "page tells which. How to add one: [add-a-task.md](../add-a-task.md).",
        "This page is written by `python docs/generate_task_pages.py`.",
    ]
    return "\n\n".join(blocks) + "\n"


def _picture_name(task: Task) -> str:
    return f"pictures/{task.name}.png"


def _frames(task: Task) -> str:
    return f"{task.input_frames} → {task.target_frames}"


def _caption(task: Task) -> str:
    clips = max(task.input_frames, task.target_frames) > 1
    shown = f"four of {task.target_frames} frames; input above, target below" if clips else "input left, target right"
    return f"One pair of the embedded world: {shown}."


def _facts(task: Task) -> str:
    restored = "yes, so the unchanged query is a baseline" if task.restores else "no"
    needs = ", ".join(f"`{field}`" for field in sorted(task.requires)) or "nothing but colours"
    picky = type(task).accepts is not Task.accepts
    rows = [
        ("Version", str(task.version)),
        ("Modality", task.modality),
        ("Frames of input → target", _frames(task)),
        ("Training", "held out: tested, never trained on" if task.held_out else "in the mixture"),
        ("Context of a test", f"`{task.context}`"),
        ("Needs of a scene, besides `rgb`", needs),
        ("Scenes", "those that it accepts; others are passed over" if picky else "all"),
        ("Input and target show the same picture", restored),
        ("Answers get back the query's detail", "yes" if task.keeps_detail else "no"),
    ]
    rows += [("Source", task.citation)] if task.citation else []
    return _table(("", ""), rows)


def _columns(task: Task) -> str:
    better = {"min": "smaller", "max": "larger"}
    rows = [
        (
            f"`{column.metric}`",
            column.unit,
            better[column.direction],
            "yes" if column.headline else "",
            f"weights `{column.needs}`" if column.needs else "nothing",
        )
        for column in task.columns
    ]
    return _table(("Key", "Unit", "Better", "Headline", "Needs"), rows)


def _headline_note(task: Task) -> str:
    if not any(column.needs for column in task.columns):
        return ""
    free = next(column.metric for column in task.columns if not column.needs)
    return (
        "A figure is measured where the weights that it needs are on the machine; `lavindit tasks "
        f"{task.name} --budget` tells how to get them. Without any of them the headline is `{free}`."
    )


def _codec(codec: Codec) -> str:
    low, high = codec.bounds
    values = "channel" if codec.channels == 1 else "channels"
    native = (
        f"a map of {codec.channels} {values}" if codec.pixelwise else f"a list of things, {codec.channels} numbers each"
    )
    rows = [
        ("Codec", f"`{type(codec).__name__}` (`{codec.name}`)"),
        ("Native", native),
        ("Native unit", codec.unit),
        ("Bounds", f"{low:g} and more" if math.isinf(high) else f"{low:g} to {high:g}"),
        ("Round-trip tolerance, float pictures", f"{codec.tolerance:.1e}"),
        ("Round-trip tolerance, 8-bit pictures", f"{codec.tolerance_8bit:.1e}"),
        ("An invalid pixel", codec.invalid),
    ]
    note = (
        "\n\nBounds are those of the pair above: the codec is made for the scenes of an episode."
        if codec.name in ("palette", "panoptic", "flow")
        else ""
    )
    return _table(("", ""), rows) + note


def _commands(task: Task) -> str:
    still = "drawing.png" if isinstance(task, GenerationTask) else "photo.jpg"
    query = "clip.mp4" if task.input_frames > 1 else still
    lines = [
        f"lavindit tasks {task.name}",
        f"lavindit tasks {task.name} --budget",
        f"lavindit apply --task {task.name} --query {query} --out answers",
    ]
    return "```sh\n" + "\n".join(lines) + "\n```"


def _query_note(task: Task) -> str:
    if isinstance(task, GenerationTask):
        return "The query is the drawing, as in the picture above."
    if not task.requires and task.input_frames == task.target_frames:
        return (
            "With `--corrupt` the query is a clean picture: the task makes its input from it, "
            "and the answer is scored against the truth."
        )
    return "The answer is a video." if task.target_frames > 1 else ""


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def render_all() -> tuple[dict[Path, str], dict[Path, Tensor]]:
    """Every page and every picture by its file."""
    tasks = [task for task in all_tasks().values() if type(task).__module__.startswith(BUILT_IN)]
    examples = {task.name: example_of(task) for task in tasks}
    pages = {FOLDER / f"{task.name}.md": render_page(task, examples[task.name]) for task in tasks}
    pages[FOLDER / "README.md"] = render_table(tasks)
    return pages, {FOLDER / _picture_name(task): draw_pair(examples[task.name]) for task in tasks}


def find_stale(pages: dict[Path, str], pictures: dict[Path, Tensor]) -> list[Path]:
    """Files that are missing, out of date, or of no task."""
    there = {*FOLDER.glob("*.md"), *FOLDER.glob("pictures/*")}
    stale = [path for path, text in pages.items() if not path.is_file() or path.read_text() != text]
    stale += [path for path, picture in pictures.items() if not is_alike(path, picture)]
    return [*stale, *sorted(there - pages.keys() - pictures.keys())]


def main() -> None:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    pages, pictures = render_all()
    stale = find_stale(pages, pictures)
    if check:
        for path in stale:
            print(f"out of date: {path}", file=sys.stderr)
        sys.exit(1 if stale else 0)
    for path in stale:
        if path in pages or path in pictures:
            write_atomically(path, pages[path].encode() if path in pages else to_png(pictures[path]))
            print(f"wrote {path}")
        else:
            path.unlink()
            print(f"removed {path}, which is of no task")


if __name__ == "__main__":
    main()
