"""The waiting tasks of a router in the order in which they began to wait, kept while it follows a journal.

A list of keys by pool, of which some may be stale: what waits now says the router's index, and a key that it no longer
has is passed over. So a task that leaves costs nothing, one that comes is put near the end, and a page is read from
where the last one ended without a look at the others.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from schemas.decision import Step, TaskRow
from streams.core.router import Router

#: Since when it waits, in milliseconds; its pool; its id.
Key: TypeAlias = tuple[float, str, str]
#: Stale keys of a pool before they are removed, beside as many as there are others.
SPARE: Final = 64


def key_of(row: TaskRow) -> Key:
    """Return the place of a task in the order."""
    return (row.status.since_ms, row.task.pool, row.task.task_id)


class Backlog:
    """What waits at one router."""

    def __init__(self, router: Router) -> None:
        self.router = router
        #: By pool; a pool is put in order when it is asked for first.
        self._keys: dict[str, list[Key]] = {}

    def take(self, step: Step) -> None:
        """Follow a step that the router has applied."""
        changed = [(row.task.pool, row.task.task_id) for row in step.tasks]
        changed += [(one.pool, one.task_id) for one in step.tasks_changed]
        for pool, task_id in changed:
            keys, index = self._keys.get(pool), self.router.indexes.get(pool)
            if keys is None or index is None:
                continue
            if (entry := index.entries.get(task_id)) is not None:
                key = key_of(entry.row)
                place = bisect_left(keys, key)
                if place == len(keys) or keys[place] != key:
                    keys.insert(place, key)
            if len(keys) > 2 * len(index.entries) + SPARE:
                self._keys[pool] = [one for one in keys if self._row(one) is not None]

    def rows(self, pool: str, after: Key | None = None, *, newest_first: bool = False) -> Iterator[TaskRow]:
        """Give the waiting tasks of a pool behind a place, the longest wait first, or the shortest."""
        keys = self._in_order(pool)
        if newest_first:
            places: Iterable[int] = range((len(keys) if after is None else bisect_left(keys, after)) - 1, -1, -1)
        else:
            places = range(0 if after is None else bisect_right(keys, after), len(keys))
        for place in places:
            if (row := self._row(keys[place])) is not None:
                yield row

    def _in_order(self, pool: str) -> list[Key]:
        if (keys := self._keys.get(pool)) is not None:
            return keys
        if (index := self.router.indexes.get(pool)) is None:
            return []
        keys = self._keys[pool] = sorted(key_of(entry.row) for entry in index.entries.values())
        return keys

    def _row(self, key: Key) -> TaskRow | None:
        """Return the task of a key; None: it does not wait, or waits since another time."""
        index = self.router.indexes.get(key[1])
        entry = index.entries.get(key[2]) if index is not None else None
        return entry.row if entry is not None and entry.row.status.since_ms == key[0] else None
