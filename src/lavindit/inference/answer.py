"""Answers: from the pictures of a model's square back to the query's size and native units."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lavindit.inference.presets import Settings
from lavindit.inference.queries import Asked, join_frames, join_windows
from lavindit.pictures import Rounding, Stretch, truncate
from lavindit.task import Task, keep_known
from lavindit.types import Episode, Prediction

WHOLLY = 0.99  # of a mask that was resized: not mixed with what is unknown


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer, and what the model saw.

    Attributes:
        episode: Context and query at the model's resolution; padding of the query is not valid.
        square: The answer at the model's resolution [3, T, size, size].
        prediction: The answer at the query's own size; at the model's where the query was stretched.
    """

    episode: Episode
    square: Tensor
    prediction: Prediction


def answer_to(
    task: Task,
    query: Asked,
    parts: Sequence[Episode],
    squares: Sequence[Tensor],
    seconds: float,
    settings: Settings,
    corrupt: bool = False,
) -> Answer:
    """One answer of those to the windows of a query.

    Args:
        task: The task.
        query: The query.
        parts: An episode for each window.
        squares: What the model answered to each.
        seconds: How long it took.
        settings: How it was asked.
        corrupt: Whether the query is clean and was damaged in the square alone: its own picture is the truth then.
    """
    square = join_frames(squares, query.windows)
    pair = join_windows([part.query for part in parts], query.windows)
    episode = replace(parts[0], query=pair)
    # Quantised here and not on saving, so that native values and figures belong to the file's pixels.
    own = None
    if settings.sampling.detail and not corrupt:
        own = _change_picture(task, query, pair.input, square)
    image = _round(query.box.undo(square) if own is None else own, settings.rounding)
    shown = _round(square, settings.rounding)
    image, shown = _keep_known(task, query, pair.input, image), keep_known(task, pair.input, shown)
    codec = episode.codec
    native = codec.rescale(codec.decode(image), *query.box.scale)
    prediction = Prediction(episode.task, episode.sample_id, image, native, codec.unit, seconds)
    return Answer(episode, shown, prediction)


def _keep_known(task: Task, query: Asked, asked: Tensor, image: Tensor) -> Tensor:
    """`keep_known` at the query's own size.

    What was hidden on purpose (`corrupt`) is hidden in the square alone, so both must know a pixel.
    """
    if isinstance(query.box, Stretch):  # the answer stays the square
        return keep_known(task, asked, image)
    in_square, in_picture = task.known_pixels(asked), task.known_pixels(query.picture)
    if in_square is None or in_picture is None:
        return image
    known = in_picture & (query.box.undo(in_square.float()) > WHOLLY)
    return torch.where(known, query.picture, image)


def _change_picture(task: Task, query: Asked, asked: Tensor, square: Tensor) -> Tensor | None:
    """The query's picture [3, T, H, W], changed as the answer changes the square; None where detail is not kept."""
    if not task.keeps_detail or isinstance(query.box, Stretch):
        return None
    return (task.prepare_query(query.picture) + query.box.undo(square - asked)).clamp(0, 1)


def _round(picture: Tensor, rounding: Rounding) -> Tensor:
    return truncate(picture) if rounding == "truncate" else picture
