"""Where frames stand on the time axis and which frames see which: the shape of an episode's sequence.

A sequence is all clean frames (input, target, input, target, ..., query) and then the noisy ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import torch
from torch import Tensor

from lavindit.models.jdit.config import ContextAttention

Span = tuple[int, int]
Calls = tuple[tuple[Span, tuple[Span, ...]], ...]
"""Attention without masks, call by call: who asks, and whom they see, as spans [first, last + 1)."""


@dataclass(frozen=True)
class Layout:
    """Positions and visibility of the frames of a sequence.

    Attributes:
        context: Time position of each clean frame.
        target: Time position of each noisy frame.
        visible: visible[i][j] tells whether frame i attends to frame j, over clean then noisy frames;
            None: everybody sees everybody.
        inputs: For each noisy frame, which clean frame is its input.
    """

    context: tuple[int, ...]
    target: tuple[int, ...]
    visible: tuple[tuple[bool, ...], ...] | None
    inputs: tuple[int, ...] = ()

    def token_mask(self, tokens_per_frame: int, device: torch.device) -> Tensor | None:
        """Boolean attention mask [N, N] over tokens, True where attention is allowed."""
        if self.visible is None:
            return None
        mask = torch.tensor(self.visible, device=device)
        return mask.repeat_interleave(tokens_per_frame, 0).repeat_interleave(tokens_per_frame, 1)

    def calls(self, tokens_per_frame: int) -> Calls | None:
        """The mask as calls over tokens; None: everybody sees everybody."""
        return None if self.visible is None else _calls(self.visible, tokens_per_frame)


@lru_cache(maxsize=64)
def _calls(visible: tuple[tuple[bool, ...], ...], n: int) -> Calls:
    """Neighbouring frames that see the same ask together."""
    found, first = [], 0
    for row, rows in groupby(visible):
        last = first + len(list(rows))
        found.append(((first * n, last * n), tuple((a * n, b * n) for a, b in _spans(row))))
        first = last
    return tuple(found)


def _spans(row: tuple[bool, ...]) -> list[Span]:
    """Where a row is true."""
    found, first = [], 0
    for seen, places in groupby(row):
        last = first + len(list(places))
        if seen:
            found.append((first, last))
        first = last
    return found


@lru_cache(maxsize=64)
def query_layout(
    mode: ContextAttention, context_frames: int, target_frames: int, query_frames: int = 1, copies: int = 1
) -> Layout:
    """One query at the end of its context, its target after it: sampling, and the paper's training.

    Clean frames that never see the noise serve several noisy `copies` of the target at once, which do not see each
    other.

    Raises:
        ValueError: Several copies, and a joint context, which would see them all.
    """
    pairs = context_frames - query_frames
    inputs = inputs_of([pairs] * copies, query_frames, target_frames)
    if mode == "joint":
        if copies > 1:
            raise ValueError("a joint context sees the noise: it serves one noisy target")
        noisy = tuple(range(context_frames, context_frames + target_frames))
        return Layout(tuple(range(context_frames)), noisy, None, inputs)
    seen = [i + 1 if mode == "causal" else pairs if i < pairs else context_frames for i in range(context_frames)]
    return _blind_to_noise(seen, [context_frames] * copies, target_frames, inputs)


@lru_cache(maxsize=64)
def reading_layout(mode: ContextAttention, frames: int, first: int = 0) -> Layout:
    """Clean frames that are read on their own, after `first` others that they all see: frame by frame, or at once."""
    if mode == "joint":
        raise ValueError("a joint context sees the noise: it cannot be read before the target is there")
    rows = tuple(tuple(j <= i for j in range(frames)) for i in range(frames))
    return Layout(tuple(range(first, first + frames)), (), rows if mode == "causal" and frames > 1 else None)


@lru_cache(maxsize=64)
def every_pair_layout(pairs: int, input_frames: int = 1, target_frames: int = 1, copies: int = 1) -> Layout:
    """Noisy targets for every pair and for the query; only a causal context allows it.

    Noisy target i stands where the clean target i stands, and sees the clean frames before it and itself: its
    context is the pairs 0..i-1 and its own input. One pass so trains contexts of length 0 to `pairs`, and since the
    clean frames never see the noise, each target may come in several noisy `copies` that do not see each other:
    all targets once, then all again, and so on.
    """
    stride = input_frames + target_frames
    context_frames = pairs * stride + input_frames
    before = [i * stride + input_frames for i in range(pairs + 1)]
    inputs = inputs_of([i * stride for i in range(pairs + 1)] * copies, input_frames, target_frames)
    return _blind_to_noise(range(1, context_frames + 1), before * copies, target_frames, inputs)


def inputs_of(starts: Sequence[int], input_frames: int, target_frames: int) -> tuple[int, ...]:
    """Which clean frame is the input of each noisy one; that of a target that is longer is its input's last.

    Args:
        starts: Of each target, the first frame of its input.
        input_frames: Frames of an input.
        target_frames: Frames of a target.
    """
    return tuple(start + min(frame, input_frames - 1) for start in starts for frame in range(target_frames))


def _blind_to_noise(seen: Sequence[int], before: Sequence[int], target_frames: int, inputs: tuple[int, ...]) -> Layout:
    """Clean frames, and noisy targets that they do not see.

    Args:
        seen: How many clean frames, from the first on, each clean frame sees.
        before: How many each target sees; it stands right after them, and sees itself and no other target.
        target_frames: Frames of a target.
        inputs: See `Layout`.
    """
    clean, noisy = len(seen), len(before) * target_frames
    rows = [tuple(j < count for j in range(clean + noisy)) for count in seen]
    for number, count in enumerate(before):
        first = clean + number * target_frames
        rows += [tuple(j < count or first <= j < first + target_frames for j in range(clean + noisy))] * target_frames
    noisy_frames = tuple(n + f for n in before for f in range(target_frames))
    return Layout(tuple(range(clean)), noisy_frames, tuple(rows), inputs)
