"""How many tasks of a pool wait, for what, and since when: told from the line-up without looking at each of them."""

from __future__ import annotations

from typing import NamedTuple

from schemas.vocabulary import Millis
from streams.core.index.pool_index import PoolIndex


class Waits(NamedTuple):
    """The waiting tasks of one pool at one moment."""

    #: By the reason they were told.
    by_headline: dict[str, int]
    #: When the one that waits longest began to.
    oldest_ms: Millis
    #: The greatest aged points among them: exact, or one more.
    points_max: int


def waits(index: PoolIndex, now_ms: Millis) -> Waits | None:
    """Look at the groups of a line-up; None: nobody waits. Between two steps only, when nothing is hidden."""
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
