"""What a degradation does unless it is told otherwise, for reports."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from lavindit.data.degradations.filters import REFERENCE_SIDE


def parameters_of(degradation: Callable[..., Any], **others: Any) -> Mapping[str, Any]:
    """The defaults of a degradation by name, read off its signature; lengths are for a shorter side of 64 px.

    Args:
        degradation: A function of this package.
        **others: Constants of its module that are no arguments.
    """
    signature = inspect.signature(degradation).parameters.values()
    defaults = {p.name: _plain(p.default) for p in signature if p.default is not inspect.Parameter.empty}
    return {"reference_side_px": REFERENCE_SIDE} | defaults | others


def _plain(value: Any) -> Any:
    """Records by number, from 1 on, and ranges as lists: what JSON holds."""
    if isinstance(value, tuple) and value and is_dataclass(value[0]):
        return {str(number): asdict(record) for number, record in enumerate(value, start=1)}
    return list(value) if isinstance(value, tuple) else value
