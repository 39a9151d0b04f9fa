"""Waiting tasks of a pool: how many, why and since when, from the index and without a scan."""

from __future__ import annotations

from typing import NamedTuple

from schemas.vocabulary import Millis
from streams.core.index.pool_index import PoolIndex


class Waits(NamedTuple):
    """The waiting tasks of one pool at one time."""

    #: By announced headline.
    by_headline: dict[str, int]
    #: Start of the longest wait.
    oldest_ms: Millis
    #: The greatest aged points among them: exact, or one more.
    points_max: int


def waits(index: PoolIndex, now_ms: Millis) -> Waits | None:
    """Return the counts from the groups of an index; None: no task waits. Call it between two steps only."""
    by_headline: dict[str, int] = {}
    oldest: list[Millis] = []
    points: list[int] = []
    cycle = now_ms // index.rulebook.ageing_ms
    for group in index.groups.values():
        if not group.queue.live:
            continue
        points.append(-group.queue.bound(cycle)[0])
        for headline, announced in group.announced.items():
            word = headline or "untold"
            by_headline[word] = by_headline.get(word, 0) + announced.live
            oldest += [since_ms for since_ms, _, _ in announced.first(group, headline, 1)]
    if not by_headline:
        return None
    return Waits(by_headline, min(oldest, default=now_ms), max(points))
