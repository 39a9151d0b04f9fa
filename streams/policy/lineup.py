"""The line-up of a pool: who waits for which models and what is free, indexed so that deciding never scans.

Waiting tasks that get the same verdict from every model and the same lift stand in one *group*; a group's
tasks compete for the same slots and, while they wait, have the same headline. Verdicts depend on a task's
*shape* (what it requires, its floor, its boundaries, whether it fits) and on its EV's standing against P50 and
P90; both are looked up, not computed, for the second task of a kind.

An index, not the truth: it is built from the rows of `state.pool` and can be thrown away. `align` brings it in
line with a fleet and percentiles that the step being computed would bring about, and `release` undoes what a
decision hid.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final

from msgspec import Raw
from msgspec.json import encode

from schemas.decision import Percentiles, SlotRow, TaskRow
from schemas.events import TaskPending
from schemas.vocabulary import GATES, Dimension, Millis, ReasonCode, Tier, to_millis
from streams.policy.catalog import PREMIUM_TIER
from streams.policy.rulebook import Rulebook
from streams.policy.rules import boundary, capability, context, floor
from streams.policy.rules.premium import PERCENTILE_ERROR
from streams.state.pool import Pool
from streams.state.slots import FreeSlots
from streams.state.waiting import AgeingQueue, Entry

_ORDER: Final[dict[str, int]] = {gate: i for i, gate in enumerate(GATES)}
_UNABLE: Final = frozenset(("capability", "context", "boundary", "floor"))
_HEADLINES: Final[dict[str, ReasonCode]] = {
    "capability": "no_capable_model",
    "context": "context",
    "boundary": "boundary",
    "floor": "floor",
    "exhausted": "exhausted",
    "drained": "drained",
    "quota": "quota",
    "premium": "reserved_for_ev",
    "credit": "credit",
}
#: Shapes remembered; more different ones than this come from nobody but a fuzzer.
_SHAPES_MAX: Final = 4_096
#: So many more entries than tasks are borne before a list is looked through.
_TOLD_SPARE: Final = 64
_DUE_MIN: Final = 4_096
ShapeKey = tuple[object, ...]
Verdicts = tuple[str | None, ...]
#: Due: (when, kind, id, which); kinds are `lease`, `deadline` and `due`.
Due = tuple[Millis, str, str, int]


class Shape:
    """Everything about a task that its verdicts depend on, apart from its EV and priority."""

    __slots__ = ("bars", "groups", "open", "reserved")

    def __init__(self, requires: Mapping[Dimension, int], verdicts: Verdicts, reserved: Verdicts) -> None:
        self.bars = capability.bars(requires)
        #: Verdicts of each model of the fleet while the reserve is open to the task, and while it is not.
        self.open = verdicts
        self.reserved = reserved
        #: (reserve closed, lifted) -> group
        self.groups: dict[tuple[bool, bool], Group] = {}


class Told:
    """Those who were told one headline, longest waiting first; entries of others surface and go."""

    __slots__ = ("line", "live")

    def __init__(self) -> None:
        self.live = 0
        self.line: list[tuple[Millis, str, Entry]] = []

    def compact(self, group: Group, headline: ReasonCode | None) -> None:
        """Drop the entries of those who left; a headline that is told all the time is never asked for its first."""
        kept = {
            item[1]: item
            for item in self.line
            if item[2].alive and item[2].group is group and item[2].row.standing.headline == headline
        }
        self.line = list(kept.values())
        heapify(self.line)

    def first(self, group: Group, headline: ReasonCode | None, count: int) -> list[tuple[Millis, str, Entry]]:
        """The first `count` that still wait and are not hidden."""
        found: list[tuple[Millis, str, Entry]] = []
        hidden: list[tuple[Millis, str, Entry]] = []
        while self.line and len(found) < count:
            item = heappop(self.line)
            entry = item[2]
            if found and found[-1][2] is entry:
                # Told this, then something else, then this again.
                continue
            if entry.alive and entry.group is group and entry.row.standing.headline == headline:
                (hidden if entry.taken else found).append(item)
        for item in (*found, *hidden):
            heappush(self.line, item)
        return found


class Group:
    """Waiting tasks with the same verdicts and the same lift."""

    __slots__ = ("_able", "_alternatives", "able_mask", "lifted", "mask", "premium_mask", "queue", "told", "verdicts")

    def __init__(self, verdicts: Verdicts, ageing_ms: int, *, lifted: bool) -> None:
        self.verdicts = verdicts
        self.lifted = lifted
        #: Bit i: the i-th model of the fleet is admissible; or refused by `premium` alone.
        self.mask = sum(1 << i for i, gate in enumerate(verdicts) if gate is None)
        self.premium_mask = sum(1 << i for i, gate in enumerate(verdicts) if gate == "premium")
        #: The model could do the work, whether or not policy lets it.
        self.able_mask = sum(1 << i for i, gate in enumerate(verdicts) if gate not in _UNABLE)
        self.queue = AgeingQueue(ageing_ms)
        #: Reason last announced -> those to whom it was announced.
        self.told: dict[ReasonCode | None, Told] = {}
        self._alternatives: dict[tuple[int, int], Raw] = {}
        self._able: str | None = None

    def tell(self, entry: Entry) -> None:
        """The task was told the headline that its row has."""
        headline = entry.row.standing.headline
        told = self.told.get(headline)
        if told is None:
            told = self.told[headline] = Told()
        told.live += 1
        heappush(told.line, (entry.since_ms, entry.task_id, entry))
        if len(told.line) > 2 * told.live + _TOLD_SPARE:
            told.compact(self, headline)

    def untell(self, headline: ReasonCode | None) -> None:
        """One of those told this headline left, or was told another."""
        told = self.told[headline]
        told.live -= 1
        if not told.live:
            del self.told[headline]

    def stale(self, headline: ReasonCode, count: int) -> list[tuple[Millis, str, Entry]]:
        """Up to `count` of those who were told something else than this, longest waiting first."""
        found: list[tuple[Millis, str, Entry]] = []
        for other, told in self.told.items():
            if other != headline:
                found += told.first(self, other, count)
        return sorted(found)[:count]

    def able(self, models: tuple[str, ...]) -> str:
        """Admissible models by name."""
        if self._able is None:
            self._able = ", ".join(model for i, model in enumerate(models) if self.mask >> i & 1)
        return self._able

    def headline(self, free_mask: int) -> ReasonCode:
        """Why these tasks wait, when the models in `free_mask` have a free slot."""
        if self.premium_mask & free_mask:
            return "reserved_for_ev"
        if self.mask:
            return "capable_busy"
        if not self.verdicts:
            return "no_capable_model"
        furthest = max((gate for gate in self.verdicts if gate is not None), key=lambda gate: _ORDER[gate])
        return _HEADLINES[furthest]

    def alternatives(self, models: tuple[str, ...], free_mask: int, chosen: int) -> Raw:
        """Every model's verdict as JSON, encoded once for each picture that occurs; `chosen` -1: none."""
        key = (free_mask & self.mask, chosen)
        raw = self._alternatives.get(key)
        if raw is None:
            words = {}
            for i, (model, gate) in enumerate(zip(models, self.verdicts, strict=True)):
                passed = "chosen" if i == chosen else "ok" if free_mask >> i & 1 else "busy"
                words[model] = {"gate": gate or passed}
            raw = self._alternatives[key] = Raw(encode(words))
        return raw


class LineUp:
    """The index of one pool."""

    def __init__(self, pool: Pool, rulebook: Rulebook) -> None:
        self.pool = pool
        self.rulebook = rulebook
        #: The fleet that the groups are made for, in catalogue order; bit i of every mask is models[i].
        self.models: tuple[str, ...] = ()
        self.bit: dict[str, int] = {}
        self.tier_masks: dict[int, int] = {}
        #: The masks of the tiers, lowest first.
        self.tiers_up: tuple[int, ...] = ()
        self.usual: Percentiles | None = None
        self.groups: dict[tuple[Verdicts, bool], Group] = {}
        self.entries: dict[str, Entry] = {}
        self.free: dict[str, FreeSlots] = {}
        #: Slots in service by model, as the state has it.
        self.in_service: dict[str, int] = {}
        #: Free slots by model bit, as the state has it.
        self.free_counts: list[int] = []
        #: Free mask under which every headline was last found to be told; None: look again.
        self.settled_mask: int | None = None
        self._hidden_tasks: list[Entry] = []
        self._hidden_in: dict[FreeSlots, None] = {}
        #: By model: free slots, free longest first; stale ones go when they surface.
        self._lines: dict[str, list[tuple[Millis, str]]] = {}
        self._hidden_slots: set[str] = set()
        self._parked_lines: list[tuple[list[tuple[Millis, str]], tuple[Millis, str]]] = []
        self.due: list[Due] = []
        self.parked_due: list[Due] = []
        self._due_max = _DUE_MIN
        #: How many were told that they wait because of the percentiles.
        self._reserved = 0
        #: Classified while deciding; used again when the decision becomes part of the state.
        self.prepared: dict[str, Entry] = {}
        self._shapes: dict[ShapeKey, Shape] = {}
        self._by_ev: dict[int, dict[str, Entry]] = {}
        self._ev_keys: list[int] = []
        self._unknown_ev: dict[str, Entry] = {}
        self._bands: list[int] = []
        self._band_counts: list[int] = []
        self._slot_rows: dict[str, SlotRow] = {}
        for slot in pool.slots.values():
            self.sync_slot(slot.slot_id)
        self.align(frozenset(self.in_service), pool.percentiles)
        for row in pool.tasks.values():
            self.sync_task(row.task.task_id)

    # What is, by shape and standing.

    def classify(self, row: TaskRow) -> Entry:
        """A place in the line-up for the task: its shape and its group."""
        task = row.task
        shape = self._shape(row)
        low = self.rulebook.policy.premium.is_low(row.ev, task.priority, self.usual)
        lifted = self.is_lifted(row)
        group = shape.groups.get((low, lifted))
        if group is None:
            group = self._group(shape, low=low, lifted=lifted)
        entry = Entry(row, self.rulebook.ageing_ms, shape)
        entry.group = group
        return entry

    def is_lifted(self, row: TaskRow) -> bool:
        """Whether the task may claim a higher tier than it needs."""
        if row.task.quest_priority >= self.rulebook.policy.lift.quest_priority_min:
            return True
        usual = self.usual
        if usual is None or usual.p90 is None or row.ev is None:
            return False
        return row.ev > usual.p90 + abs(usual.p90) * PERCENTILE_ERROR

    def _group(self, shape: Shape, *, low: bool, lifted: bool) -> Group:
        verdicts = shape.reserved if low else shape.open
        group = self.groups.get((verdicts, lifted))
        if group is None:
            group = self.groups[verdicts, lifted] = Group(verdicts, self.rulebook.ageing_ms, lifted=lifted)
        shape.groups[low, lifted] = group
        return group

    def _shape(self, row: TaskRow) -> Shape:
        task = row.task
        requires = task.requires
        key: ShapeKey = (
            tuple(sorted(requires.items())) if len(requires) > 1 else tuple(requires.items()),
            row.standing.tier_min,
            task.complexity,
            task.floor_model,
            task.max_tier,
            task.local_only,
            task.allow_providers,
            task.deny_providers,
            # Whether it fits is part of its shape only where there is a model that it may not fit.
            self._fits(task) if task.input_tokens > self.rulebook.input_tokens_safe else None,
        )
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= _SHAPES_MAX:
                self._shapes.clear()
            shape = self._shapes[key] = self._new_shape(task, row.standing.tier_min)
        return shape

    def _fits(self, task: TaskPending) -> tuple[bool, ...]:
        max_tokens = self.rulebook.max_tokens(task.complexity, task.output_tokens)
        return tuple(not context.refuses(task, max_tokens, self.rulebook.models[model]) for model in self.models)

    def _new_shape(self, task: TaskPending, escalated: Tier) -> Shape:
        tier_min = floor.tier_min(task, escalated, self.rulebook)
        max_tokens = self.rulebook.max_tokens(task.complexity, task.output_tokens)
        models = [self.rulebook.models[model] for model in self.models]
        verdicts: list[str | None] = []
        for model in models:
            if capability.refuses(task, model):
                verdicts.append("capability")
            elif context.refuses(task, max_tokens, model):
                verdicts.append("context")
            elif boundary.refuses(task, model):
                verdicts.append("boundary")
            elif floor.refuses(tier_min, model):
                verdicts.append("floor")
            else:
                verdicts.append(None)
        # The sole-capable exception: premium refuses only where something cheaper is capable at all.
        cheaper = any(gate is None and model.tier < PREMIUM_TIER for model, gate in zip(models, verdicts, strict=True))
        reserved = tuple(
            "premium" if gate is None and cheaper and model.tier >= PREMIUM_TIER else gate
            for model, gate in zip(models, verdicts, strict=True)
        )
        return Shape(task.requires, tuple(verdicts), reserved)

    # Keeping in line with the rows.

    def sync_task(self, task_id: str) -> None:
        """The task's row changed: it waits here, waits differently, or waits no longer."""
        row = self.pool.tasks.get(task_id)
        old = self.entries.get(task_id)
        waiting = row is not None and row.standing.state == "waiting"
        prepared = self.prepared.pop(task_id, None)
        if old is not None:
            if waiting and row is not None and old.row.standing.attempt == row.standing.attempt:
                self._told(old, row)
                return
            self._remove(old)
        if row is None:
            return
        if waiting:
            # The row of a decoded step is equal to the prepared one, that of the own step is the same object.
            entry = prepared if prepared is not None and prepared.row is row else self.classify(row)
            self._add(entry)
        self._expect(row)

    def _told(self, entry: Entry, row: TaskRow) -> None:
        before, after = entry.row.standing.headline, row.standing.headline
        entry.row = row
        if before != after:
            self._untell(entry, before)
            self._tell(entry)

    def _expect(self, row: TaskRow) -> None:
        """What will fall due for this task."""
        task, standing = row.task, row.standing
        if standing.state == "held" and standing.due_ms is not None:
            self._push_due((standing.due_ms, "due", task.task_id, standing.attempt))
        if task.deadline is not None and standing.state != "running":
            self._push_due((to_millis(task.deadline), "deadline", task.task_id, standing.attempt))

    def _add(self, entry: Entry) -> None:
        self.entries[entry.task_id] = entry
        self._join(entry)
        band = entry.band
        i = bisect_left(self._bands, band)
        if i == len(self._bands) or self._bands[i] != band:
            self._bands.insert(i, band)
            self._band_counts.insert(i, 0)
        self._band_counts[i] += 1
        self._ev_bucket(entry)[entry.task_id] = entry

    def _remove(self, entry: Entry) -> None:
        del self.entries[entry.task_id]
        self._leave(entry)
        i = bisect_left(self._bands, entry.band)
        self._band_counts[i] -= 1
        if not self._band_counts[i]:
            del self._bands[i]
            del self._band_counts[i]
        del self._ev_bucket(entry)[entry.task_id]

    def _join(self, entry: Entry) -> None:
        group: Group = entry.group
        group.queue.push(entry)
        self._tell(entry)

    def _leave(self, entry: Entry) -> None:
        group: Group = entry.group
        group.queue.remove(entry)
        self._untell(entry, entry.row.standing.headline)

    def _tell(self, entry: Entry) -> None:
        entry.group.tell(entry)
        self._reserved += entry.row.standing.headline == "reserved_for_ev"

    def _untell(self, entry: Entry, headline: ReasonCode | None) -> None:
        entry.group.untell(headline)
        self._reserved -= headline == "reserved_for_ev"

    def sync_slot(self, slot_id: str) -> None:
        """The slot's row changed."""
        row = self.pool.slots.get(slot_id)
        old = self._slot_rows.get(slot_id)
        if old is row:
            return
        if old is not None:
            if not old.retired:
                self.in_service[old.model] -= 1
                if not self.in_service[old.model]:
                    del self.in_service[old.model]
            if old.state == "free" and not old.retired:
                self.free[old.model].remove(slot_id)
                if old.model in self.bit:
                    self.free_counts[self.bit[old.model]] -= 1
        if row is None:
            del self._slot_rows[slot_id]
            return
        self._slot_rows[slot_id] = row
        if not row.retired:
            self.in_service[row.model] = self.in_service.get(row.model, 0) + 1
            if row.state == "free":
                self.free_slots(row.model).add(slot_id, row.since_ms)
                heappush(self._lines.setdefault(row.model, []), (row.since_ms, slot_id))
                if row.model in self.bit:
                    self.free_counts[self.bit[row.model]] += 1
        if row.state == "held" and row.lease_expires_at_ms is not None:
            self._push_due((row.lease_expires_at_ms, "lease", slot_id, row.lease))

    def free_slots(self, model: str) -> FreeSlots:
        """The free slots of a model."""
        free = self.free.get(model)
        if free is None:
            free = self.free[model] = FreeSlots(self.pool.busy)
        return free

    # Keeping in line with what verdicts depend on.

    def align(self, fleet: AbstractSet[str], usual: Percentiles | None) -> None:
        """From here on the fleet and the usual EVs are these."""
        if fleet != self.bit.keys():
            self.usual = usual
            self._refleet(tuple(sorted(fleet, key=self.rulebook.rank.__getitem__)))
        elif usual is not self.usual and usual != self.usual:
            before, self.usual = self.usual, usual
            self._regroup(before, usual)

    def _refleet(self, models: tuple[str, ...]) -> None:
        self.models = models
        self.bit = {model: i for i, model in enumerate(models)}
        self.tier_masks = {}
        for i, model in enumerate(models):
            tier = self.rulebook.models[model].tier
            self.tier_masks[tier] = self.tier_masks.get(tier, 0) | 1 << i
        self.tiers_up = tuple(self.tier_masks[tier] for tier in sorted(self.tier_masks))
        self.free_counts = [len(self.free_slots(model)) for model in models]
        self.settled_mask = None
        self._shapes.clear()
        self.groups.clear()
        self.prepared.clear()
        self._reserved = 0
        for entry in self.entries.values():
            fresh = self.classify(entry.row)
            entry.group, entry.shape = fresh.group, fresh.shape
            self._join(entry)

    def _regroup(self, before: Percentiles | None, after: Percentiles | None) -> None:
        """Tasks whose EV lies between an old and a new percentile change sides."""
        self.settled_mask = None
        self.prepared.clear()
        movers: dict[str, Entry] = {}
        for old, new in zip(_lines(before), _lines(after), strict=True):
            if (old is None) != (new is None):
                movers = self.entries
                break
            if old is not None and new is not None and old != new:
                # An EV that equals a line up to its last digits may stand in the bucket beside it.
                low, high = min(old, new), max(old, new)
                margin = 2 * PERCENTILE_ERROR
                for bucket in self._ev_buckets(low - abs(low) * margin, high + abs(high) * margin):
                    movers.update(bucket)
        for entry in list(movers.values()):
            fresh = self.classify(entry.row)
            if fresh.group is not entry.group:
                # A queue's entries are its own: leave with the old one, join with a new one.
                self._leave(entry)
                self.entries[entry.task_id] = fresh
                self._ev_bucket(entry)[entry.task_id] = fresh
                self._join(fresh)

    def _ev_bucket(self, entry: Entry) -> dict[str, Entry]:
        ev = entry.row.ev
        if ev is None:
            return self._unknown_ev
        key = _bucket_key(ev)
        bucket = self._by_ev.get(key)
        if bucket is None:
            bucket = self._by_ev[key] = {}
            insort(self._ev_keys, key)
        return bucket

    def _ev_buckets(self, low: float, high: float) -> Iterator[dict[str, Entry]]:
        keys = self._ev_keys
        last = _bucket_key(high)
        for key in islice(keys, bisect_left(keys, _bucket_key(low)), None):
            if key > last:
                return
            yield self._by_ev[key]

    # For the decision being computed.

    def ahead(self, entry: Entry) -> int:
        """An upper bound of who is served up to it: lifted ones, and the bands that may have as many points."""
        lifted = sum(group.queue.live for group in self.groups.values() if group.lifted)
        i = bisect_left(self._bands, entry.band + 2)
        as_old = sum(self._band_counts[:i])
        group: Group = entry.group
        return min(lifted, as_old) if group.lifted else min(len(self.entries), lifted + as_old)

    def due_from_ms(self) -> float:
        """Nothing falls due before this; whether something does then, `is_due` tells."""
        return min(self.due[0][0] if self.due else math.inf, self._stale_from_ms())

    def is_due(self, now_ms: Millis) -> bool:
        """Whether something fell due by `now_ms`."""
        return self.due_from_ms() <= now_ms and min(self.first_due_ms(), self._stale_from_ms()) <= now_ms

    def next_due_ms(self) -> Millis | None:
        """When the next thing falls due: a row's, or new percentiles where somebody waits because of the old."""
        due_ms = min(self.first_due_ms(), self._stale_from_ms())
        return None if due_ms == math.inf else Millis(int(due_ms))

    def _stale_from_ms(self) -> float:
        """When percentiles may be recomputed, where somebody waits because of them."""
        usual = self.pool.percentiles
        if not self._reserved or usual is None or usual.p50 is None:
            return math.inf
        return usual.at_ms + self.rulebook.recompute_ms

    def first_due_ms(self) -> float:
        """When the next row falls due."""
        while self.due:
            if self._is_current(self.due[0]):
                return self.due[0][0]
            heappop(self.due)
        return math.inf

    def pop_due(self, now_ms: Millis) -> Due | None:
        """The next thing that fell due by `now_ms`, hidden until `release`."""
        if self.first_due_ms() > now_ms:
            return None
        item = heappop(self.due)
        self.parked_due.append(item)
        return item

    def _is_current(self, item: Due) -> bool:
        _, kind, id_, which = item
        if kind == "lease":
            slot = self.pool.slots.get(id_)
            return slot is not None and slot.state == "held" and slot.lease == which
        row = self.pool.tasks.get(id_)
        if row is None or row.standing.attempt != which:
            return False
        return row.standing.state == "held" if kind == "due" else row.standing.state != "running"

    def _push_due(self, item: Due) -> None:
        heappush(self.due, item)
        if len(self.due) > self._due_max:
            # Most leases end before their limit; what they left behind goes when it has doubled the heap.
            self.due = [kept for kept in self.due if self._is_current(kept)]
            heapify(self.due)
            self._due_max = max(_DUE_MIN, 2 * len(self.due))

    def hide(self, entry: Entry) -> None:
        """The task is not waiting any more, for the rest of this decision."""
        group: Group = entry.group
        group.queue.take(entry)
        self._hidden_tasks.append(entry)

    def hide_slot(self, model: str, slot_id: str) -> None:
        """The slot is not free any more, for the rest of this decision."""
        free = self.free_slots(model)
        free.take(slot_id)
        self._hidden_in[free] = None
        self._hidden_slots.add(slot_id)

    def longest_free(self, model: str) -> tuple[Millis, str] | None:
        """(since, slot id) of the model's slot that has been free longest."""
        line = self._lines.get(model)
        while line:
            since_ms, slot_id = line[0]
            row = self._slot_rows.get(slot_id)
            if row is None or row.state != "free" or row.since_ms != since_ms or row.retired or row.model != model:
                heappop(line)
            elif slot_id in self._hidden_slots:
                self._parked_lines.append((line, heappop(line)))
            else:
                return since_ms, slot_id
        return None

    def release(self) -> None:
        """End of a decision: everything it hid is there again."""
        for entry in self._hidden_tasks:
            entry.group.queue.release()
        self._hidden_tasks.clear()
        for free in self._hidden_in:
            free.release()
        self._hidden_in.clear()
        self._hidden_slots.clear()
        for line, place in self._parked_lines:
            heappush(line, place)
        self._parked_lines.clear()
        for item in self.parked_due:
            heappush(self.due, item)
        self.parked_due.clear()


def _lines(usual: Percentiles | None) -> tuple[float | None, float | None]:
    return (None, None) if usual is None else (usual.p50, usual.p90)


def _bucket_key(ev: float) -> int:
    """Monotone in `ev`; neighbours differ by some three percent."""
    mantissa, exponent = math.frexp(abs(ev))
    key = 0 if ev == 0 else (exponent + 1100) * 32 + int(mantissa * 32)
    return key if ev >= 0 else -key
