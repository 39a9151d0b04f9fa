"""A model that an operator took out of service gets nothing new until it is restored, or until a stated moment."""

from __future__ import annotations

from schemas.vocabulary import Millis, from_millis
from streams.core.state.marks import Marks


def refuses(marks: Marks, model: str, now_ms: Millis) -> bool:
    """Whether the model is drained now."""
    if model not in marks.drained:
        return False
    until_ms = marks.drained[model]
    return until_ms is None or until_ms > now_ms


def reason(marks: Marks, model: str) -> str:
    """Why nothing new goes to this model."""
    until_ms = marks.drained[model]
    return f"{model} is drained" if until_ms is None else f"{model} is drained until {from_millis(until_ms)}"
