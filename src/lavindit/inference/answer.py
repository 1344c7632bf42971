"""Answers: from the pictures of a model's square back to the query's size and native units."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from lavindit.inference.presets import Settings
from lavindit.inference.queries import Asked, join_frames, join_windows
from lavindit.pictures import Rounding, truncate
from lavindit.types import Episode, Prediction


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
    query: Asked, parts: Sequence[Episode], squares: Sequence[Tensor], seconds: float, settings: Settings
) -> Answer:
    """One answer of those to the windows of a query."""
    square = join_frames(squares, query.windows)
    pair = join_windows([part.query for part in parts], query.windows)
    episode = replace(parts[0], query=pair)
    # Quantised here and not on saving, so that native values and figures belong to the file's pixels.
    image, shown = _round(query.box.undo(square), settings.rounding), _round(square, settings.rounding)
    codec = episode.codec
    native = codec.rescale(codec.decode(image), *query.box.scale)
    prediction = Prediction(episode.task, episode.sample_id, image, native, codec.unit, seconds)
    return Answer(episode, shown, prediction)


def _round(picture: Tensor, rounding: Rounding) -> Tensor:
    return truncate(picture) if rounding == "truncate" else picture
