"""The span of a replay as people type it: each end is the number of a step or a time before now."""

from __future__ import annotations

from schemas.vocabulary import Millis
from streams.operate.moments import ago
from streams.replay.span import Span


def span_of(since: str | None, until: str | None, now_ms: Millis) -> Span:
    """Return the span between two ends; None: the journal's begin or end.

    Raises:
        MomentError: an end is neither a number nor a time.
    """
    first_seq, first_ms = end_of(since, now_ms)
    last_seq, last_ms = end_of(until, now_ms)
    return Span(since_seq=first_seq or 0, since_ms=first_ms or 0, until_seq=last_seq, until_ms=last_ms)


def end_of(text: str | None, now_ms: Millis) -> tuple[int | None, int | None]:
    """Return an end as the number of a step or as a time in milliseconds, the other None; both: none was typed.

    Raises:
        MomentError: it is neither a number nor a time.
    """
    if text is None:
        return None, None
    if text.isascii() and text.isdecimal():
        return int(text), None
    return None, round(1000 * ago(text, now_ms).timestamp())
