"""The index of a pool: waiting tasks by the models that they may use, and free slots, so that a decision never scans.

Waiting tasks are in groups (`groups.py`): a group's tasks compete for the same slots and have the same headline. A
shape is computed once for all tasks of a kind.

The index is built from the rows of `state.pool` and can be rebuilt at any time. `align` evaluates it for the fleet,
percentiles, marks and budgets of the step in progress; the next decision aligns it again. `release` undoes what a
decision hid and reserved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from math import inf

from schemas.decision import LedgerRow, Percentiles, TaskRow, TaskState
from schemas.vocabulary import MicroUsd, Millis, ReasonCode, to_millis
from streams.core.index.balances import Balances
from streams.core.index.breaker_index import BreakerIndex
from streams.core.index.conditions import Conditions
from streams.core.index.credit_groups import CreditGroups, is_of
from streams.core.index.due import DueList
from streams.core.index.family import Family
from streams.core.index.fleet import Cell, Fleet, Scores
from streams.core.index.groups import Group, GroupKey
from streams.core.index.score_cache import ScoreCache
from streams.core.index.shape import Shape
from streams.core.index.shapes import Shapes
from streams.core.index.slot_index import SlotIndex
from streams.core.index.undo import Undo
from streams.core.index.waiting import Entry
from streams.core.index.waiting_index import WaitingIndex
from streams.core.index.wakeups import BEHIND_PREMIUM, Wakeups
from streams.core.policy.rulebook import Rulebook
from streams.core.state.marks import Marks
from streams.core.state.pool import Pool
from streams.core.state.spending import Scope


class PoolIndex:
    """The index of one pool."""

    def __init__(self, pool: Pool, rulebook: Rulebook, now_ms: Millis) -> None:
        self.pool = pool
        self.rulebook = rulebook
        self._undo = Undo()
        self.due = DueList(pool, self._undo)
        self.slots = SlotIndex(pool, rulebook.use_step_ms, self.due, self._undo)
        self.waiting = WaitingIndex()
        self.entries = self.waiting.entries
        self.breaker = BreakerIndex(pool, rulebook)
        self.wakeups = Wakeups(pool, self.due, self.waiting, self.breaker, rulebook, now_ms)
        #: The `now` of the groups: that of the decision in progress, else the state's.
        self.now_ms = now_ms
        #: Ids of tasks that are in their groups because they reach patience in the decision in progress.
        self._now_patient: dict[str, None] = {}
        #: From when on, and up to when, the prices hold by which the tasks are in their groups.
        self._priced_ms = _price_span(rulebook, now_ms)
        #: The fleet and percentiles of the groups.
        self.fleet = Fleet((), {}, frozenset())
        self.percentiles: Percentiles | None = None
        self.conditions = Conditions(rulebook, pool.marks, now_ms)
        self.balances = Balances(pool.ledgers, self._costs_max, self._undo)
        self.groups: dict[GroupKey, Group] = {}
        self._credit = CreditGroups(self.groups, self.balances, self._new_group, self._look)
        self._shapes = Shapes(rulebook, self.fleet, now_ms)
        self._score_cache = ScoreCache(rulebook, self.fleet, now_ms)
        #: Free premium cells for which every task's announced headline is its present one; None: unknown.
        self.announced_mask: int | None = None
        #: Entries made by the decision in progress; used again when its step is applied.
        self.prepared: dict[str, Entry] = {}
        for slot in pool.slots.values():
            self.slots.sync(slot.slot_id)
        fleet, in_service = frozenset(self.slots.registered), frozenset(self.slots.in_service)
        spent = self.breaker.spent(now_ms)
        self.align(fleet, in_service, pool.percentiles, pool.marks, {}, spent, len(pool.slots), now_ms)
        for row in pool.tasks.values():
            self.sync_task(row.task.task_id)

    # Classifying tasks.

    def classify(self, row: TaskRow) -> Entry:
        """Return an entry of the task: its shape and its group."""
        task = row.task
        shape = self._shapes.of(row)
        policy = self.rulebook.policy
        low = shape.has_floor and policy.premium.is_low(row.ev, task.priority, self.percentiles)
        if low and (patient_ms := self.rulebook.patient_ms(row)) <= self.now_ms:
            low = False
            if patient_ms > self.wakeups.now_ms:
                self._now_patient[task.task_id] = None
        lifted = policy.lift.lifts(row.ev, task.quest_priority, self.percentiles)
        barred = self._barred(row)
        group = shape.groups.get((low, lifted, barred))
        if group is None:
            group = self._group(shape, low=low, lifted=lifted, barred=barred)
        entry = Entry(row, self.rulebook.ageing_ms, shape, group)
        if task.tenant_id is not None and task.tenant_id in self.balances.left:
            cost_max_uusd = self.rulebook.cost_max_uusd(task, shape.complexity)
            if self.balances.is_watched(task.tenant_id, cost_max_uusd):
                entry.costs = self._shapes.costs(task, shape)
                entry.group = self._credit.of(group, task.tenant_id, entry.costs, shape.verdicts_below)
        return entry

    def scores(self, entry: Entry, cells: int) -> Scores | None:
        """Return the score of each model with a cell in the mask; None for the others."""
        return self._score_cache.among(cells, entry.row.task, entry.shape.complexity)

    def cost_uusd(self, entry: Entry, place: int) -> MicroUsd | None:
        """Return the estimated cost of the task on the model at this place of the fleet; None: a price is unknown."""
        if entry.costs is not None:
            return entry.costs[place]
        return self._shapes.cost_uusd(entry.row.task, entry.shape, place)

    def _costs_max(self, tenant: str) -> Iterator[int]:
        """Return upper bounds of the cost of the tenant's waiting tasks."""
        for entry in self.waiting.of_tenant(tenant):
            yield self.rulebook.cost_max_uusd(entry.row.task, entry.shape.complexity)

    def _group(self, shape: Shape, *, low: bool, lifted: bool, barred: int) -> Group:
        below = shape.verdicts_below if barred else None
        key = GroupKey(shape.verdicts, low, lifted, barred, shape.emergency_mask, shape.failed, None, below)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = self._new_group(key, None)
        shape.groups[low, lifted, barred] = group
        return group

    def _new_group(self, key: GroupKey, family: Family | None) -> Group:
        group = Group(key, self.fleet, self.rulebook.ageing_ms, family, self._undo)
        group.look(self.fleet, self.conditions, self.balances.left)
        return group

    def _look(self, group: Group) -> None:
        # Its headline may be another one.
        self.announced_mask = None
        group.look(self.fleet, self.conditions, self.balances.left)

    # Following the rows of the state.

    def sync_task(self, task_id: str) -> None:
        """Follow a change of the task's row: it waits, waits with another status, or no longer waits."""
        row = self.pool.tasks.get(task_id)
        old = self.entries.get(task_id)
        waiting = row is not None and row.status.state == "waiting"
        prepared = self.prepared.pop(task_id, None)
        if old is not None:
            if waiting and row is not None and _is_same(old.row, row):
                self._reannounce(old, row)
                return
            self.waiting.remove(old)
            self._leave(old)
        if row is None:
            return
        if waiting:
            # The row of a decoded step is equal to the prepared one; that of this worker's step is the same object.
            entry = prepared if prepared is not None and prepared.row is row else self.classify(row)
            self.waiting.add(entry)
            self._join(entry)
        self._expect(row)

    def sync_ledger(self, tenant: str) -> None:
        """Follow a change of the tenant's ledger."""
        self.balances.sync(tenant, self.pool.ledgers[tenant].available_uusd)

    def applied(self, now_ms: Millis) -> None:
        """Finish after a step was applied."""
        self.now_ms = self.wakeups.now_ms = now_ms
        self.prepared.clear()
        self._credit.tidy()

    def _expect(self, row: TaskRow) -> None:
        """Add the due items of this task."""
        task, status = row.task, row.status
        if status.state == "delayed" and status.due_ms is not None:
            self.due.push((status.due_ms, "due", task.task_id, status.attempt))
        if task.deadline is not None and status.state != "running":
            self.due.push((to_millis(task.deadline), "deadline", task.task_id, status.attempt))

    def _join(self, entry: Entry) -> None:
        if entry.costs is not None and self.groups.get(entry.group.key) is not entry.group:
            # It was removed with the decision that made it.
            entry.group = self.classify(entry.row).group
        entry.group.queue.push(entry)
        self._announce(entry)

    def _leave(self, entry: Entry) -> None:
        entry.group.queue.remove(entry)
        self._withdraw(entry, entry.row.status.headline)
        self._credit.drop(entry.group)

    def _reannounce(self, entry: Entry, row: TaskRow) -> None:
        before, after = entry.row.status.headline, row.status.headline
        entry.row = row
        if before != after:
            self._withdraw(entry, before)
            self._announce(entry)

    def _announce(self, entry: Entry) -> None:
        headline = entry.row.status.headline
        entry.group.announce(entry)
        if headline in BEHIND_PREMIUM:
            self.wakeups.reserve(entry)
        if self.announced_mask is not None and entry.group.headline(self.announced_mask) != headline:
            self.announced_mask = None

    def _withdraw(self, entry: Entry, headline: ReasonCode | None) -> None:
        entry.group.withdraw(headline)
        if headline in BEHIND_PREMIUM:
            self.wakeups.unreserve()

    # Reads, for operators.

    def states(self) -> Counter[TaskState]:
        """Count the tasks by state, without looking at each: a running one has a leased slot, and no other has."""
        tasks, waiting = self.pool.tasks, len(self.entries)
        running = sum(slot.state == "leased" for slot in self.pool.slots.values())
        return Counter({"waiting": waiting, "running": running, "delayed": len(tasks) - waiting - running})

    def announced(self) -> Counter[str]:
        """Count the waiting tasks by the headline last announced, without looking at each."""
        found: Counter[str] = Counter()
        for group in self.groups.values():
            for headline, announced in group.announced.items():
                found[str(headline)] += announced.live
        return found

    def oldest_ms(self) -> Millis | None:
        """Return since when the task waits that has waited longest; None: nothing waits."""
        known = (
            announced.oldest_ms(group, headline)
            for group in self.groups.values()
            for headline, announced in group.announced.items()
        )
        return min((since_ms for since_ms in known if since_ms is not None), default=None)

    # Alignment with what verdicts depend on.

    def align(
        self,
        fleet: AbstractSet[Cell],
        in_service: AbstractSet[Cell],
        percentiles: Percentiles | None,
        marks: Marks,
        ledgers: Mapping[str, LedgerRow],
        spent: Mapping[Scope, int],
        slots_max: int,
        now_ms: Millis,
    ) -> None:
        """Set fleet, cells with a slot in service, percentiles, marks, credit of these tenants, and prices of the hour.

        `spent` is the spend of the last hour by tenant, lane and pool, where the policy caps it; `slots_max` is an
        upper bound of the pool's slots.
        """
        self.now_ms = now_ms
        for tenant, row in ledgers.items():
            self.balances.leave(tenant, row.available_uusd)
        self.balances.has_slots(slots_max)
        is_barred_otherwise = self.breaker.look(spent, marks, now_ms)
        if fleet != self.fleet.bit.keys() or not self._priced_ms[0] <= now_ms < self._priced_ms[1]:
            self.percentiles = percentiles
            self._refleet(fleet, in_service, marks, now_ms)
            return
        if percentiles is not self.percentiles and percentiles != self.percentiles:
            before, self.percentiles = self.percentiles, percentiles
            self.prepared.clear()
            self._move(self.waiting.between(before, percentiles))
        self._look_at_patience()
        if is_barred_otherwise:
            self.prepared.clear()
            self._move([one for one in self.entries.values() if self._barred(one.row) != one.group.key.barred])
        changed = self.conditions.look(self.fleet, self.fleet.mask_of(in_service), marks, now_ms)
        # Credit first: a group that has just been evaluated no longer shows that its family must be split.
        self.look_at_credit()
        if changed:
            for group in self.groups.values():
                self._look(group)

    def look_at_credit(self) -> bool:
        """Evaluate groups of tenants whose credit has changed; return whether tasks changed their groups.

        If so, entries that are not in the index yet must be classified again.
        """
        balances, waiting, regrouped = self.balances, self.waiting, False
        if not balances.changed and not self._credit.is_to_split:
            return regrouped
        for tenant in balances.take_changed():
            if balances.look(tenant):
                regrouped = True
                self._move(waiting.of_tenant(tenant))
            if tenant in balances.watched:
                self._credit.look(tenant)
        for key, tenant in self._credit.split():
            regrouped = True
            self._move([entry for entry in waiting.of_tenant(tenant) if is_of(entry.group, key)])
        return regrouped

    def _look_at_patience(self) -> None:
        """Move tasks that have reached patience out of the groups below the floor; `release` moves them back."""
        points, cycle = self.rulebook.patience_points, self.now_ms // self.rulebook.ageing_ms
        for group in [group for group in self.groups.values() if group.key.low]:
            # The head has the most points.
            while (queue := group.queue).live and -queue.bound(cycle)[0] >= points:
                found = queue.head(self.now_ms)
                if found is None or found[1] < points:
                    break
                self._move([found[0]])

    def _move(self, entries: Iterable[Entry]) -> None:
        """Move entries whose group changed with their cost, the percentiles or the time."""
        for entry in entries:
            fresh = self.classify(entry.row)
            if fresh.group is not entry.group:
                # An entry belongs to one queue: remove the old one, add a new one.
                self._leave(entry)
                self.waiting.replace(fresh)
                self._join(fresh)
                if entry.taken:
                    self.hide(fresh)

    def _refleet(self, fleet: AbstractSet[Cell], in_service: AbstractSet[Cell], marks: Marks, now_ms: Millis) -> None:
        self.fleet = Fleet.of(fleet, self.rulebook)
        self.slots.align(self.fleet)
        self.announced_mask = None
        self.conditions.look(self.fleet, self.fleet.mask_of(in_service), marks, now_ms)
        self._priced_ms = _price_span(self.rulebook, now_ms)
        self._shapes = Shapes(self.rulebook, self.fleet, now_ms)
        self._score_cache = ScoreCache(self.rulebook, self.fleet, now_ms)
        self.groups.clear()
        self._credit.clear()
        self.balances.begin_again(priced=all(model.tariff.is_known for model in self._shapes.models))
        self.prepared.clear()
        self.wakeups.clear()
        for entry in self.entries.values():
            fresh = self.classify(entry.row)
            entry.group, entry.shape, entry.costs = fresh.group, fresh.shape, fresh.costs
            self._join(entry)
        self.look_at_credit()

    def _barred(self, row: TaskRow) -> int:
        return self.breaker.level(row.task.tenant_id, row.task.lane)

    # For the decision in progress.

    def begin(self) -> None:
        """Begin a decision; entries of another one are not used."""
        self.prepared.clear()

    def hide(self, entry: Entry) -> None:
        """Hide the task for the rest of this decision."""
        entry.take(self._undo)

    def release(self) -> None:
        """End a decision: undo what it hid and reserved, and go back to the time of the state."""
        self._undo.run()
        self.now_ms = self.wakeups.now_ms
        if self._now_patient:
            self._move([self.entries[task_id] for task_id in self._now_patient if task_id in self.entries])
            self._now_patient.clear()
        self._credit.tidy()

    def ahead(self, entry: Entry) -> int:
        """Return an upper bound of the tasks served up to it: lifted ones, and bands that may have as many points."""
        lifted = sum(group.queue.live for group in self.groups.values() if group.lifted)
        as_old = self.waiting.as_old_as(entry)
        return min(lifted, as_old) if entry.group.lifted else min(len(self.entries), lifted + as_old)

    def may_serve(self, free_mask: int) -> bool:
        """Whether a task may use a free slot. The slots of an emergency model are free most of the time."""
        return any(group.mask & free_mask for group in self.groups.values())


def _price_span(rulebook: Rulebook, now_ms: Millis) -> tuple[float, float]:
    """Return a time from which on, and one before which, the present prices hold."""
    change_ms = rulebook.prices_change_ms(now_ms)
    return (-inf if change_ms == inf else now_ms, change_ms)


def _is_same(old: TaskRow, new: TaskRow) -> bool:
    """Whether a waiting task differs in nothing but its announced headline: it stays in its group and in its place."""
    before, after = old.status, new.status
    same = (before.attempt, before.tier_min, before.since_ms) == (after.attempt, after.tier_min, after.since_ms)
    return old.task is new.task and same
