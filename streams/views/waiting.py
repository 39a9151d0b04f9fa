"""What waits, the longest first, and for what: in words, with what would free it. Pure.

The words come from the rules that refuse, asked about the present; a count of busy slots and the end of the first
lease are added where every gate is open.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from operator import attrgetter
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import TaskRow
from schemas.vocabulary import Millis, from_millis
from streams.core.index.pool_index import PoolIndex
from streams.core.index.waiting import Entry
from streams.core.policy.case import Candidate
from streams.core.policy.rules import BY_HEADLINE
from streams.core.step import sentences
from streams.core.step.positions import service_key
from streams.views.backlog import Backlog
from streams.views.units import span
from streams.views.waiting_order import Place, Sort

# In C, as is `map`: with many tasks each look at one costs more than what is done with it.
_ROW_OF: Final[Callable[[Entry], TaskRow]] = attrgetter("row")
#: With more waiting tasks than these the place in service order is not counted.
PLACED_MAX: Final = 5_000
#: What comes first where groups are listed: what no slot coming free will change.
_WORST: Final = ("no_capable_model", "boundary", "context", "floor", "lost", "drained", "credit", "exhausted", "quota")


class Wait(Struct, frozen=True, kw_only=True):
    """A waiting task."""

    task_id: str
    pool: str
    title: str
    #: Its headline now.
    reason: str
    since: str
    waited_s: float
    #: What it waits for, as a sentence.
    waits_for: str
    #: What would free it, as a sentence.
    frees: str
    #: Place in service order, from 1; None: not counted.
    place: int | None
    priority: int
    ev: float | None
    attempt: int
    lane: str | None
    tenant_id: str | None
    class_: str | None


class Waits(Struct, frozen=True, kw_only=True):
    """The waiting tasks of some pools."""

    total: int
    delayed: int
    #: By headline, the ones that a free slot does not end first.
    by_reason: dict[str, int]
    oldest_s: float | None
    #: As many as asked for, of those that match.
    rows: tuple[Wait, ...]
    #: How many match.
    matching: int
    #: The key of the last row, where there are more behind it; None: there are none.
    last: Place | None


class Choice(Struct, frozen=True, kw_only=True):
    """Which waiting tasks are meant, and in which order; what is not said excludes none."""

    reason: str | None = None
    lane: str | None = None
    tenant: str | None = None
    #: A part of the id or of the title, in any case.
    text: str | None = None
    #: In which order.
    sort: Sort = Sort()

    def among(self, rows: Iterable[TaskRow]) -> list[TaskRow]:
        """Return those of some tasks that are meant, their text aside: a pass over them for each thing that is said."""
        found = list(rows)
        if self.reason is not None:
            found = [row for row in found if row.status.headline == self.reason]
        if self.lane is not None:
            found = [row for row in found if row.task.lane == self.lane]
        if self.tenant is not None:
            found = [row for row in found if row.task.tenant_id == self.tenant]
        return found

    @property
    def is_all(self) -> bool:
        """Whether it leaves out none."""
        return self.reason is None and self.lane is None and self.tenant is None and self.text is None


def waits_of(
    backlogs: Iterable[Backlog], now_ms: Millis, *, pool: str | None = None, choice: Choice | None = None,
    limit: int = 50, after: Place | None = None,
) -> Waits:  # fmt: skip
    """Return what waits at these routers, or in one pool; `after`: behind the row with that key."""
    choice = choice or Choice()
    of = [
        (backlog, index)
        for backlog in backlogs
        for name, index in backlog.router.indexes.items()
        if pool in (None, name)
    ]
    indexes = [index for _, index in of]
    total = sum(len(index.entries) for index in indexes)
    by_reason = sum((index.announced() for index in indexes), Counter[str]())
    oldest_ms = min((since_ms for index in indexes if (since_ms := index.oldest_ms()) is not None), default=None)
    matching, found = _found(of, choice, after, limit + 1)  # one more says whether there is more
    asked: dict[str, _Asked] = {}
    for row in found:
        if row.task.pool not in asked:
            index = next(index for index in indexes if index.pool.name == row.task.pool)
            asked[row.task.pool] = _Asked(index, now_ms)
    return Waits(
        total=total,
        delayed=sum(index.states()["delayed"] for index in indexes),
        by_reason={reason: by_reason[reason] for reason in sorted(by_reason, key=_rank)},
        oldest_s=(now_ms - oldest_ms) / 1000 if oldest_ms is not None else None,
        rows=tuple(asked[row.task.pool].wait(row) for row in found[:limit]),
        matching=matching,
        last=choice.sort.key(found[limit - 1]) if len(found) > limit else None,
    )


Of: TypeAlias = list[tuple[Backlog, PoolIndex]]


def _found(of: Of, choice: Choice, after: Place | None, limit: int) -> tuple[int, list[TaskRow]]:
    """Return how many tasks match, and the first of them behind a place."""
    total = sum(len(index.entries) for _, index in of)
    every = _in_order(of, choice.sort, after)
    if choice.is_all:
        return total, list(islice(every, limit))
    entries = _looked_up(of, choice)
    if choice.tenant is not None and replace(choice, tenant=None).is_all and len(entries) ** 2 > limit * total:
        return len(entries), list(islice((row for row in every if row.task.tenant_id == choice.tenant), limit))
    those = choice.among(map(_ROW_OF, entries))
    if len(those) ** 2 <= limit * total:
        return len(those), choice.sort.first(those, after, limit)
    # Every n-th task is meant: the page is found sooner in the order of all than among those that are.
    meant = set(map(id, those))  # both are the rows of the index
    return len(those), list(islice((row for row in every if id(row) in meant), limit))


def _looked_up(of: Of, choice: Choice) -> list[Entry]:
    """Return the tasks of what is meant that there is an index for, or all."""
    if choice.text is not None:
        found = (backlog.having(index.pool.name, choice.text) for backlog, index in of)
    elif choice.tenant is not None:
        found = (index.waiting.of_tenant(choice.tenant) for _, index in of)
    else:
        found = (list(index.entries.values()) for _, index in of)
    return list(chain.from_iterable(found))


def _in_order(of: Of, sort: Sort, after: Place | None) -> Iterator[TaskRow]:
    """Give the rows of several pools behind a place; nothing is put in order before the first is asked for."""
    ordered = (backlog.rows(index.pool.name, sort, after) for backlog, index in of)
    yield from heapq.merge(*ordered, key=sort.key, reverse=sort.descending)


def _rank(reason: str) -> tuple[int, str]:
    return (_WORST.index(reason) if reason in _WORST else len(_WORST), reason)


class _Asked:
    """The answers about the waiting tasks of one pool at one time."""

    def __init__(self, index: PoolIndex, now_ms: Millis) -> None:
        self._index = index
        self._now_ms = now_ms
        self._free_mask = index.slots.free_mask()
        #: By model: how many slots have a task, and when the first lease ends.
        self._busy: dict[str, tuple[int, Millis | None]] = {}
        for slot in index.pool.slots.values():
            if slot.state == "leased" and not slot.retired:
                count, first_ms = self._busy.get(slot.model, (0, None))
                ends_ms = slot.lease_expires_at_ms
                if ends_ms is not None and (first_ms is None or ends_ms < first_ms):
                    first_ms = ends_ms
                self._busy[slot.model] = count + 1, first_ms
        self._places: dict[str, int] | None = None

    def wait(self, row: TaskRow) -> Wait:
        """Return what is known of one task."""
        task, index = row.task, self._index
        entry = index.entries[task.task_id]
        headline = entry.group.headline(self._free_mask)
        waits_for, frees = self._capable_busy(entry) if headline == "capable_busy" else self._refused(entry, headline)
        return Wait(
            task_id=task.task_id,
            pool=task.pool,
            title=task.title,
            reason=str(headline),
            since=from_millis(row.status.since_ms),
            waited_s=max(0, self._now_ms - row.status.since_ms) / 1000,
            waits_for=waits_for,
            frees=frees,
            place=self._place(entry),
            priority=task.priority,
            ev=row.ev,
            attempt=row.status.attempt,
            lane=task.lane,
            tenant_id=task.tenant_id,
            class_=entry.shape.complexity,
        )

    def _capable_busy(self, entry: Entry) -> tuple[str, str]:
        models = list(self._models(entry))
        busy = [self._busy[model] for model in models if model in self._busy]
        count = sum(one for one, _ in busy)
        first_ms = min((ends_ms for _, ends_ms in busy if ends_ms is not None), default=None)
        named = f"{', '.join(models[:-1])} or {models[-1]}" if len(models) > 1 else "".join(models)
        ends = ""
        if first_ms is not None:
            left_s = max(0, first_ms - self._now_ms) / 1000
            ends = f", the first lease ends in {span(left_s)} at the latest" if left_s else ", a lease ends now"
        says = f"A slot of {named}: {count} busy{ends}."
        return says, f"One of them comes free, or another slot of {models[0] if models else 'a model'} is announced."

    def _refused(self, entry: Entry, headline: str) -> tuple[str, str]:
        index = self._index
        says = sentences.waits(entry, headline, index, self._free_mask, index.slots.lost)  # type: ignore[arg-type]
        rule = BY_HEADLINE.get(headline)
        if not index.fleet.cells:
            return says, f"Announce a slot in {index.pool.name}."
        if rule is None:
            return says, "Its slot reports again, or another one is announced."
        first = next(
            (cell for cell, gate in zip(index.fleet.cells, entry.group.gates, strict=True) if gate == rule.gate), None
        )
        if first is None:
            return says, ""
        refused = [
            Candidate(index.rulebook.models[cell.model], cell.account)
            for cell, gate in zip(index.fleet.cells, entry.group.gates, strict=True)
            if gate == rule.gate and cell.model == first.model
        ]
        return says, rule.remedy(sentences.case_of(entry, index), refused)

    def _models(self, entry: Entry) -> Iterator[str]:
        mask, fleet = entry.group.mask, self._index.fleet
        yield from dict.fromkeys(cell.model for i, cell in enumerate(fleet.cells) if mask >> i & 1)

    def _place(self, entry: Entry) -> int | None:
        if len(self._index.entries) > PLACED_MAX:
            return None
        if self._places is None:
            rulebook, now_ms = self._index.rulebook, self._now_ms
            ordered = sorted(self._index.entries.values(), key=lambda one: service_key(one, rulebook, now_ms))
            self._places = {one.task_id: place for place, one in enumerate(ordered, start=1)}
        return self._places[entry.task_id]
