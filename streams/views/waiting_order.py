"""What waiting tasks are put in order by, and the first of some of them. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from math import inf
from operator import attrgetter, gt, itemgetter, lt
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from schemas.decision import TaskRow

Order: TypeAlias = Literal[
    "since", "priority", "ev", "attempt", "title", "task_id", "pool", "reason", "lane", "tenant_id"
]
#: What a row is ordered by, its pool, its id.
Place: TypeAlias = tuple[Any, str, str]
#: As many characters of a text count in an order, so that what a page begins behind fits into an address.
ORDERED_CHARS: Final = 64
# In C, as is `map`: with many tasks each look at one costs more than what is done with it.
_VALUE_OF: Final[Mapping[Order, Callable[[TaskRow], Any]]] = {
    "since": attrgetter("status.since_ms"),
    "priority": attrgetter("task.priority"),
    "ev": attrgetter("ev"),
    "attempt": attrgetter("status.attempt"),
    "title": attrgetter("task.title"),
    "task_id": attrgetter("task.task_id"),
    "pool": attrgetter("task.pool"),
    "reason": attrgetter("status.headline"),
    "lane": attrgetter("task.lane"),
    "tenant_id": attrgetter("task.tenant_id"),
}
_POOL_OF: Final[Callable[[TaskRow], str]] = attrgetter("task.pool")
_ID_OF: Final[Callable[[TaskRow], str]] = attrgetter("task.task_id")
#: Those of numbers; the others are of texts, in any case.
NUMBERS: Final = frozenset[Order](("since", "priority", "ev", "attempt"))
_BEHIND_ALL: Final = "\U0010ffff"


class Sort(Struct, frozen=True):
    """An order of waiting tasks, and its direction; equals are ordered by pool and id in the same direction."""

    order: Order = "since"
    #: Whether the greatest comes first; what has no value comes last in both directions.
    descending: bool = False

    def values(self, rows: Iterable[TaskRow]) -> list[Any]:
        """Return what each row is ordered by first."""
        found = list(map(_VALUE_OF[self.order], rows))
        if self.order not in NUMBERS:
            none = "" if self.descending else _BEHIND_ALL
            return [none if one is None else one[:ORDERED_CHARS].casefold() for one in found]
        if self.order != "ev":  # the others are always there
            return found
        absent = -inf if self.descending else inf
        return [absent if one is None else one for one in found]

    def key(self, row: TaskRow) -> Place:
        """Return the place of a row."""
        return (self.values((row,))[0], row.task.pool, row.task.task_id)

    def keys(self, rows: list[TaskRow]) -> list[Place]:
        """Return the places of some rows."""
        return list(zip(self.values(rows), map(_POOL_OF, rows), map(_ID_OF, rows), strict=True))

    def first(self, rows: list[TaskRow], after: Place | None, limit: int) -> list[TaskRow]:
        """Return the first of some rows behind a place, in order."""
        keyed: Iterable[tuple[Place, TaskRow]] = zip(self.keys(rows), rows, strict=True)
        if after is not None:
            ahead = gt if self.descending else lt
            keyed = (one for one in keyed if ahead(after, one[0]))
        pick = heapq.nlargest if self.descending else heapq.nsmallest
        return [row for _, row in pick(limit, keyed, key=itemgetter(0))]
