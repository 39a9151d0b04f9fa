"""The waiting tasks of a router in the orders that are asked for, kept while it follows a journal.

What waits now says the router's index. Lists of keys by pool and order, and the texts of a pool, may hold more: what
the index no longer has is passed over. So a task that leaves costs nothing, one that comes is put in its place, and a
page is read from where the last one ended without a look at the others.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sized
from typing import Final

from schemas.decision import Step, TaskRow
from streams.core.index.pool_index import PoolIndex
from streams.core.index.waiting import Entry
from streams.core.router import Router
from streams.views.waiting_order import Place, Sort

#: Stale keys of a pool before they are removed, beside as many as there are others.
SPARE: Final = 64
#: So many rows are looked for first where an order has no list.
FIRST: Final = 128
#: Orders of a pool that are kept; the one that was asked for longest ago makes room.
ORDERS_MAX: Final = 6
#: One in so many keys may be new since an order was read; with more it is cheaper to sort again than to go on.
_UNREAD_SHARE: Final = 8
_BY_WAIT: Final = "since"


class _Ordered:
    """The keys of a pool's tasks in one order, of which some may be stale."""

    def __init__(self, index: PoolIndex, sort: Sort) -> None:
        self.index, self._sort = index, sort
        self._unread = 0
        self._sort_again()

    @property
    def is_worth_it(self) -> bool:
        """Whether it is read often enough; in the order in which tasks come, one more costs nothing."""
        return self._sort.order == _BY_WAIT or self._unread * _UNREAD_SHARE <= len(self._keys) + SPARE

    def put(self, row: TaskRow) -> None:
        """Put a waiting task in its place."""
        key = self._sort.key(row)
        place = bisect_left(self._keys, key)
        if place == len(self._keys) or self._keys[place] != key:
            self._keys.insert(place, key)
            self._unread += 1
        if _is_stale(self._keys, self.index):
            self._sort_again()

    def rows(self, after: Place | None) -> Iterator[TaskRow]:
        """Give the tasks behind a place."""
        self._unread = 0
        keys = self._keys
        if self._sort.descending:
            places: Iterable[int] = range((len(keys) if after is None else bisect_left(keys, after)) - 1, -1, -1)
        else:
            places = range(0 if after is None else bisect_right(keys, after), len(keys))
        for place in places:
            entry = self.index.entries.get(keys[place][2])
            if entry is not None and self._sort.key(entry.row) == keys[place]:  # it waits, and has the same value still
                yield entry.row

    def _sort_again(self) -> None:
        self._keys = sorted(self._sort.keys([entry.row for entry in self.index.entries.values()]))


class _Texts:
    """What the tasks of a pool are found by, of which some may have left."""

    def __init__(self, index: PoolIndex) -> None:
        self.index = index
        self._gather()

    def put(self, row: TaskRow) -> None:
        """Take a waiting task in."""
        self._texts[row.task.task_id] = _text_of(row)
        if _is_stale(self._texts, self.index):
            self._gather()

    def having(self, text: str) -> list[Entry]:
        """Return the tasks that have this text in their id or title, in any case."""
        part, entries = text.casefold(), self.index.entries
        found = [task_id for task_id, known in self._texts.items() if part in known]
        return [entry for task_id in found if (entry := entries.get(task_id)) is not None]

    def _gather(self) -> None:
        self._texts = {task_id: _text_of(entry.row) for task_id, entry in self.index.entries.items()}


class Backlog:
    """What waits at one router."""

    def __init__(self, router: Router) -> None:
        self.router = router
        #: By pool; those that were read last come last.
        self._ordered: dict[str, dict[Sort, _Ordered]] = {}
        #: What was asked for once: that is not worth a list.
        self._asked: set[tuple[str, Sort]] = set()
        #: By pool, where a text was asked for.
        self._texts: dict[str, _Texts] = {}

    def take(self, step: Step) -> None:
        """Follow a step that the router has applied."""
        changed = [(row.task.pool, row.task.task_id) for row in step.tasks]
        changed += [(one.pool, one.task_id) for one in step.tasks_changed]
        for pool, task_id in changed:
            ordered, texts, index = self._ordered.get(pool, {}), self._texts.get(pool), self.router.indexes.get(pool)
            if index is None or not (ordered or texts):
                continue
            if (entry := index.entries.get(task_id)) is None:
                continue
            if texts is not None:
                texts.put(entry.row)
            for sort, keys in list(ordered.items()):
                keys.put(entry.row)
                if not keys.is_worth_it:
                    self._forget(pool, sort)

    def rows(self, pool: str, sort: Sort, after: Place | None = None) -> Iterator[TaskRow]:
        """Give the waiting tasks of a pool behind a place, in order."""
        if (index := self.router.indexes.get(pool)) is None:
            return iter(())
        ordered = self._ordered.setdefault(pool, {})
        keys = ordered.pop(sort, None)
        if keys is None and (pool, sort) not in self._asked:
            self._asked.add((pool, sort))
            return _by_looking(index, sort, after)
        if keys is None or keys.index is not index:
            keys = _Ordered(index, sort)
        if len(ordered) == ORDERS_MAX:
            self._forget(pool, next(iter(ordered)))
        ordered[sort] = keys
        return keys.rows(after)

    def having(self, pool: str, text: str) -> list[Entry]:
        """Return the waiting tasks of a pool that have this text in their id or title, in any case."""
        if (index := self.router.indexes.get(pool)) is None:
            return []
        texts = self._texts.get(pool)
        if texts is None or texts.index is not index:
            texts = self._texts[pool] = _Texts(index)
        return texts.having(text)

    def _forget(self, pool: str, sort: Sort) -> None:
        del self._ordered[pool][sort]
        self._asked.discard((pool, sort))


def _is_stale(known: Sized, index: PoolIndex) -> bool:
    """Whether most of what is known of a pool's tasks is of those that have left."""
    return len(known) > 2 * len(index.entries) + SPARE


def _by_looking(index: PoolIndex, sort: Sort, after: Place | None) -> Iterator[TaskRow]:
    """Give a pool's tasks behind a place by looks at all of them, each for more rows than the last."""
    rows, size = [entry.row for entry in index.entries.values()], FIRST
    while found := sort.first(rows, after, size):
        yield from found
        after, size = sort.key(found[-1]), 8 * size


def _text_of(row: TaskRow) -> str:
    # Between the two is half a character, which no text from outside has.
    return f"{row.task.task_id}\ud800{row.task.title}".casefold()
