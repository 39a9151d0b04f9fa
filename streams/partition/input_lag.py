"""Inputs of one partition that exist and are not journaled: how many, and how old the oldest is. Pure.

The ends of the topics are those of the last check of delivery, so that the broker is not asked for them again.
"""

from __future__ import annotations

from schemas.vocabulary import INPUT_TOPICS
from streams.partition.ports import Behind


class InputLag:
    """By topic, in the order of `INPUT_TOPICS`."""

    def __init__(self) -> None:
        self._ends = [0] * len(INPUT_TOPICS)
        #: When inputs of a topic were first seen to be behind; None: none are.
        self._since_ms: list[int | None] = [None] * len(INPUT_TOPICS)

    def note(self, topic: int, end: int, position: int, now_ms: int) -> None:
        """Take the end of a topic, of which the input at `position` is journaled."""
        self._ends[topic] = end
        if end <= position + 1:
            self._since_ms[topic] = None
        elif self._since_ms[topic] is None:
            self._since_ms[topic] = now_ms

    def of(self, topic: int, position: int, waiting: int, oldest_ms: int | None, now_ms: int) -> Behind:
        """Return the lag, with `waiting` records in the inbox, the oldest of them of `oldest_ms`; None: not known."""
        records = max(0, self._ends[topic] - position - 1, waiting)
        if not records:
            return Behind(0, 0.0)
        known = [one for one in (oldest_ms, self._since_ms[topic]) if one is not None]
        return Behind(records, max(0, now_ms - min(known, default=now_ms)) / 1000)
