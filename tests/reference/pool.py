"""One pool: what events and time do to its tasks, slots and money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.decision import Advice
from schemas.event_id import EventId
from schemas.events import BudgetCredited, Outcome, SlotFreed, TaskPending
from schemas.vocabulary import to_millis
from tests.reference.conditions import Conditions
from tests.reference.gates import Cell, Gates, furthest, headline
from tests.reference.money import Ledger
from tests.reference.prices import next_change_ms, price
from tests.reference.rules import Rules
from tests.reference.score import scores
from tests.reference.service import Choice, Round, points, service_key, swap_problem
from tests.reference.slot import Slot
from tests.reference.spend import Paid, Spend
from tests.reference.task import Task


class Unreported(NamedTuple):
    """Work whose lease ended without a report."""

    task: Task
    decision_id: str
    decided_ms: int
    model: str
    #: What was held back for it.
    reserved_uusd: int | None


class End(NamedTuple):
    """How a task ended."""

    at_ms: int
    how: str
    #: The `at` of its event, as it was sent.
    sent_at: str


class ReferencePool:
    """One pool, decided by looking at everything."""

    def __init__(self, name: str, rules: Rules, conditions: Conditions) -> None:
        self.name, self.rules, self.conditions = name, rules, conditions
        self.tasks: dict[str, Task] = {}
        self.slots: dict[str, Slot] = {}
        self.leases: dict[str, int] = {}
        #: Every accepted report of each slot: its `at`, when it was accepted, and its identity.
        self.reports: dict[str, list[tuple[int, int, EventId | None]]] = {}
        #: Slots whose latest lease ended without a report, and what they worked on.
        self.unreported: dict[str, Unreported] = {}
        self.finished: dict[str, End] = {}
        #: How many tasks came again after their end for nothing.
        self.duplicates = 0
        self.early_cancels: dict[str, int] = {}
        self.ledgers: dict[str, Ledger] = {}
        #: What finished work has cost, where spend is capped.
        self.paid: list[Paid] = []
        self.samples: list[tuple[int, float]] = []
        self.percentiles: tuple[int, float, float] | None = None
        #: How many EVs they were computed of.
        self.samples_then = 0
        #: The ends of a step, in their order, and the last one of each task.
        self.ends: list[tuple[str, str]] = []
        self.ended: dict[str, str] = {}
        #: The slots as they were before the step.
        self.before: dict[str, Slot] = {}
        #: Whether a task may wait only because of the percentiles.
        self.waits_for_evs = False
        #: When the tasks that a premium slot is kept from have waited long enough for it.
        self.patient_ms: list[int] = []
        self.look(0)

    # Time.

    def pass_time(self, now_ms: int, last_ms: int) -> bool:
        """Let everything happen that fell due, in its order; whether the pool must be looked at."""
        some = self.is_old(now_ms) and self.waits_for_evs
        some |= any(last_ms < patient_ms <= now_ms for patient_ms in self.patient_ms)
        if any(task.state == "waiting" for task in self.tasks.values()):
            some |= any(last_ms < end_ms <= now_ms for end_ms in self.conditions.in_pool(self.name).ends_ms())
            change_ms = next_change_ms(self.rules.models, last_ms)
            some |= change_ms is not None and change_ms <= now_ms
            falls_ms = self._falls_ms(last_ms)
            some |= falls_ms is not None and falls_ms <= now_ms
        while due := sorted(due for due in self._dues() if due[0] <= now_ms):
            some = True
            at_ms, kind, id_ = due[0]
            if kind == "deadline":
                self._end(self.tasks[id_], "expired", at_ms)
            elif kind == "due":
                self.tasks[id_].state = "waiting"
            else:
                slot = self.slots[id_]
                if slot.state == "leased":
                    self._lose(slot, at_ms)
                else:
                    slot.renewals_left = 0
                slot.state, slot.since_ms = "lost", at_ms
                if slot.retired:
                    del self.slots[id_]
        return some

    def next_ms(self, now_ms: int) -> Iterable[int]:
        """When something happens here without any input."""
        yield from (at_ms for at_ms, _, _ in self._dues())
        if any(task.state == "waiting" for task in self.tasks.values()):
            yield from (round(end_ms) for end_ms in self.conditions.in_pool(self.name).ends_ms() if end_ms > now_ms)
            if (change_ms := next_change_ms(self.rules.models, now_ms)) is not None:
                yield change_ms
            if (falls_ms := self._falls_ms(now_ms)) is not None:
                yield falls_ms
        yield from (patient_ms for patient_ms in self.patient_ms if patient_ms > now_ms)
        if self.waits_for_evs and self.percentiles is not None:
            yield self.percentiles[0] + round(self.rules.section("ev")["recompute_s"] * 1000)

    def _falls_ms(self, now_ms: int) -> int | None:
        return self.spend(now_ms).falls_ms(self.rules, self.conditions.in_pool(self.name), now_ms)

    def spend(self, now_ms: int) -> Spend:
        """What was spent here in the last hour."""
        return Spend(self.name, self.paid, now_ms)

    def _dues(self) -> Iterable[tuple[int, str, str]]:
        for task in self.tasks.values():
            if task.state != "running" and task.deadline_ms is not None:
                yield task.deadline_ms, "deadline", task.id
            if task.state == "delayed":
                yield task.due_ms, "due", task.id
        for slot in self.slots.values():
            if slot.state == "leased":
                yield slot.expires_ms, "lease", slot.id
            if slot.state != "lost" and slot.ttl_ms is not None:
                yield self.reports[slot.id][-1][1] + slot.ttl_ms, "silence", slot.id

    # Tasks.

    def pend(self, event: TaskPending, advice: Advice | None, now_ms: int) -> bool:
        """A task arrives, or arrives again; whether it could be taken."""
        if event.task_id in self.tasks:
            return True
        end = self.finished.get(event.task_id)
        at_ms = min(to_millis(event.at), now_ms)
        if end is not None and (end.how == "done" or at_ms <= end.at_ms or event.at == end.sent_at):
            self.duplicates += 1
            return True
        floor = self.rules.tier.get(event.floor_model, 0) if event.floor_model is not None else 1
        too_long = len((event.payload or "").encode()) > self.rules.section("service")["payload_bytes_max"]
        if too_long or not floor or floor > (event.max_tier or 3):
            return False
        behind_ms = round(self.rules.section("service")["at_behind_max_s"] * 1000)
        task = self.tasks[event.task_id] = Task(event, advice, now_ms, behind_ms)
        if task.ev is not None:
            self.samples.append((now_ms, task.ev))
        self.finished.pop(event.task_id, None)
        cancel_ms = self.early_cancels.get(event.task_id)
        if cancel_ms is not None and (end is None or cancel_ms >= at_ms):
            self._end(task, "cancelled", now_ms)
        elif task.deadline_ms is not None and task.deadline_ms <= now_ms:
            self._end(task, "expired", now_ms)
        return True

    def cancel(self, task_id: str, now_ms: int) -> None:
        """The producer no longer wants it."""
        task = self.tasks.get(task_id)
        if task is not None and task.state == "running":
            task.cancelled = True
        elif task is not None:
            self._end(task, "cancelled", now_ms)
        elif task_id not in self.finished or self.finished[task_id].how != "done":
            self.early_cancels[task_id] = now_ms

    def retry(self, task_id: str) -> bool:
        """It may be done again, if it has ended; whether it has."""
        if task_id in self.tasks:
            return False
        self.finished.pop(task_id, None)
        self.early_cancels.pop(task_id, None)
        return True

    def _again(self, slot: Slot, now_ms: int, tier_min: int | None = None) -> None:
        """The work on this slot came to nothing."""
        task = self.tasks[slot.task_id]
        self._pay(task, 0)
        if task.cancelled:
            self._end(task, "cancelled", now_ms)
            return
        attempts = self.rules.section("attempts")
        task.failures += 1
        task.attempt += 1
        task.state, task.since_ms, task.tier_min = "waiting", now_ms, tier_min or task.tier_min
        if task.failures >= attempts["failures_max"]:
            self._end(task, "dead_lettered", now_ms)
        elif task.deadline_ms is not None and task.deadline_ms <= now_ms:
            self._end(task, "expired", now_ms)
        elif pause_ms := round(
            1000
            * min(
                attempts["back_off_s"] * 2 ** (task.failures - 1),
                max(attempts["back_off_s"], attempts["back_off_max_s"]),
            )
        ):
            task.state, task.due_ms, task.since_ms = "delayed", now_ms + pause_ms, now_ms + pause_ms

    def _end(self, task: Task, how: str, now_ms: int) -> None:
        del self.tasks[task.id]
        self.early_cancels.pop(task.id, None)
        self.finished[task.id] = End(now_ms, how, task.event.at)
        self.ended[task.id] = how
        self.ends.append((task.id, how))

    # Slots.

    def report(self, event: SlotFreed, event_id: EventId | None, now_ms: int) -> bool:
        """A slot says how it is; whether that makes sense."""
        slot = self.slots.get(event.slot_id)
        if event.model not in (None, *self.rules.tier):
            return False
        if event.state == "working":
            if slot is not None and event.lease == slot.lease and not self._is_old(event, event_id, now_ms):
                self._works_on(slot, event, event_id, now_ms)
            return True
        if event.state == "leaving":
            if slot is not None and not self._is_old(event, event_id, now_ms):
                self._hear(slot, event, event_id, now_ms)
                self.retire(slot.id)
            return True
        lives_by_reports = slot is not None and slot.state == "lost" and slot.ttl_ms is not None
        if event.state == "idle":
            if slot is None and (event.model is None or event.slot_id in self.reports):
                return True
            if slot is not None and slot.state != "free" and not lives_by_reports:
                return True
        said = 0 if slot is None else len(self.reports.get(slot.id, ()))
        taken = self._is_free(slot, event, event_id, now_ms)
        now, before = self.slots.get(event.slot_id), None if slot is None else slot.ttl_ms
        if now is not None and (now is not slot or len(self.reports[now.id]) > said):
            now.ttl_ms = before if event.lease is not None or event.state == "idle" else None
            if event.ttl_s is not None:
                now.ttl_ms = round(event.ttl_s * 1000)
        return taken

    def _is_free(self, slot: Slot | None, event: SlotFreed, event_id: EventId | None, now_ms: int) -> bool:
        """A slot announces itself, is given back, or says something stale; whether it makes sense."""
        if event.lease is not None and event.slot_id in self.leases:
            if slot is not None and slot.state == "leased" and event.lease == slot.lease:
                self._give_back(slot, event, now_ms)
            elif event.slot_id in self.unreported and event.lease == self.leases[event.slot_id]:
                self._late(self.unreported.pop(event.slot_id), event, now_ms)
            else:
                return True
        elif event.lease is None and self._is_old(event, event_id, now_ms):
            return True
        elif slot is None and event.model is None:
            return False
        elif slot is None:
            self._register(event.slot_id, event.model or "", event.account, now_ms)
        elif slot.state == "leased":
            self._lose(slot, now_ms)
        self.reports.setdefault(event.slot_id, []).append((to_millis(event.at), now_ms, event_id))
        if slot is None:
            return True
        slot.account = event.account or slot.account
        if slot.retired and event.lease is not None:
            del self.slots[slot.id]
        elif event.model not in (None, slot.model):
            self._register(slot.id, event.model or "", slot.account, now_ms)
        elif slot.state != "free":
            slot.state, slot.since_ms, slot.retired = "free", now_ms, False
        return True

    def _is_old(self, event: SlotFreed, event_id: EventId | None, now_ms: int) -> bool:
        """Whether an announcement is repeated, or older than what the slot said last."""
        reports, at_ms = self.reports.get(event.slot_id), to_millis(event.at)
        if not reports:
            return False
        latest_ms = max(said_ms for said_ms, _, _ in reports)
        _, accepted_ms, last_id = reports[-1]
        if event_id is not None and event_id == last_id:
            return True
        if latest_ms > now_ms >= at_ms:
            # The clock was ahead and was set right: what it says now is measured by ours.
            return at_ms <= accepted_ms
        return at_ms <= latest_ms

    def _works_on(self, slot: Slot, event: SlotFreed, event_id: EventId | None, now_ms: int) -> None:
        """The slot has not ended its work: its lease goes on, if it may and if no other slot has the task."""
        work = self.unreported.get(slot.id)
        if slot.state == "leased" and slot.ttl_ms is not None:
            third_ms = self.rules.lease_ms(self.tasks[slot.task_id].event) / 3
            if not slot.renewals_left or slot.expires_ms - now_ms > 2 * third_ms:
                self._hear(slot, event, event_id, now_ms)
                return
        if not slot.renewals_left or slot.state == "free":
            return
        if slot.state == "lost":
            if work is None or self.tasks.get(work.task.id) is not work.task:
                return
            if work.task.state == "running" or work.task.decision_id != work.decision_id:
                return
            slot.state, slot.since_ms, slot.task_id, slot.expires_ms = "leased", now_ms, work.task.id, 0
            work.task.state = "running"
            work.task.attempt -= 1
            work.task.failures -= 1
        slot.renewals_left -= 1
        slot.expires_ms = max(slot.expires_ms, now_ms + self.rules.lease_ms(self.tasks[slot.task_id].event))
        self._hear(slot, event, event_id, now_ms)

    def _hear(self, slot: Slot, event: SlotFreed, event_id: EventId | None, now_ms: int) -> None:
        """A report of work is accepted."""
        self.reports[slot.id].append((to_millis(event.at), now_ms, event_id))
        if event.ttl_s is not None:
            slot.ttl_ms = round(event.ttl_s * 1000)

    def _register(self, slot_id: str, model: str, account: str | None, now_ms: int) -> None:
        slot = self.slots[slot_id] = Slot(slot_id, model, account, self.leases.setdefault(slot_id, 0), now_ms)
        if slot_id in self.before:
            slot.busy = self.before[slot_id].busy

    def _give_back(self, slot: Slot, event: SlotFreed, now_ms: int) -> None:
        task = self.tasks[slot.task_id]
        ours = event.outcome if event.outcome is not None and event.outcome.task_id == task.id else None
        work = self._work(slot)
        self._count(work, self._cost(work, ours), now_ms)
        if self.unreported.pop(slot.id, None) is None:
            self._pay(task, self._actual(work, ours))
        elif (ledger := self.ledger(task)) is not None and work.reserved_uusd is not None:
            ledger.settle(0, self._actual(work, ours))
        status = ours.status if ours is not None else "success"
        on_failure, tier = task.event.on_failure, self.rules.tier[slot.model]
        not_taken = ours is not None and was_not_taken(ours)
        if ours is not None and not_taken:
            self._no_room(slot, ours, now_ms)
        if task.cancelled:
            self._end(task, "cancelled", now_ms)
        elif not_taken and task.deadline_ms is not None and task.deadline_ms <= now_ms:
            self._end(task, "expired", now_ms)
        elif not_taken:
            task.state = "waiting"
        elif status != "failure":
            self._end(task, {"success": "done"}.get(status, status), now_ms)
        elif on_failure == "drop":
            self._end(task, "dropped", now_ms)
        elif on_failure == "escalate" and tier >= (task.event.max_tier or 3):
            self._end(task, "dead_lettered", now_ms)
        else:
            self._again(slot, now_ms, tier + 1 if on_failure == "escalate" else task.tier_min)

    def _no_room(self, slot: Slot, outcome: Outcome, now_ms: int) -> None:
        """The slot's product takes nothing for a while."""
        until_ms = min(to_millis(outcome.retry_at) if outcome.retry_at is not None else 0, now_ms + 7 * 86_400_000)
        if until_ms <= now_ms:
            until_ms = now_ms + round(self.rules.section("attempts")["overload_pause_s"] * 1000)
        product = self.rules.model[slot.model]["product"]
        if self.conditions.in_pool(self.name).marks.get((product, slot.account), 0) < until_ms:
            self.conditions.exhaust(self.name, product, slot.account, until_ms)

    def _lose(self, slot: Slot, now_ms: int) -> None:
        """The lease ends, and no report said how the work went."""
        self.unreported[slot.id] = self._work(slot)
        self._again(slot, now_ms)

    def _work(self, slot: Slot) -> Unreported:
        """What the slot works on; what it was lost with once, and has taken up again, has no money held back."""
        if slot.id in self.unreported:
            return self.unreported[slot.id]
        task = self.tasks[slot.task_id]
        return Unreported(task, task.decision_id, slot.since_ms, slot.model, task.reserved_uusd)

    def _late(self, work: Unreported, event: SlotFreed, now_ms: int) -> None:
        """The slot reports after all how the work went."""
        task = work.task
        ours = event.outcome if event.outcome is not None and event.outcome.task_id == task.id else None
        self._count(work, self._cost(work, ours), now_ms)
        ledger = self.ledger(task)
        if ledger is not None and work.reserved_uusd is not None:
            ledger.settle(0, self._actual(work, ours))
        if self.tasks.get(task.id) is not task or task.state == "running" or task.decision_id != work.decision_id:
            return
        status = ours.status if ours is not None else "success"
        on_failure, tier = task.event.on_failure, self.rules.tier.get(work.model)
        if status != "failure":
            self._end(task, {"success": "done"}.get(status, status), now_ms)
        elif ours is not None and was_not_taken(ours):
            task.decision_id = ""
        elif on_failure == "drop":
            self._end(task, "dropped", now_ms)
        elif on_failure == "escalate" and tier is not None:
            if tier >= (task.event.max_tier or 3):
                self._end(task, "dead_lettered", now_ms)
            task.tier_min = tier + 1

    def retire(self, slot_id: str) -> None:
        """The slot gets nothing new."""
        slot = self.slots.get(slot_id)
        if slot is not None and slot.state == "leased":
            slot.retired = True
        elif slot is not None:
            del self.slots[slot_id]

    # Money.

    def credit(self, event: BudgetCredited) -> None:
        """A tenant has a budget from here on, or another one."""
        self.ledgers.setdefault(event.tenant_id, Ledger()).credit(round(event.amount_usd * 1_000_000))

    def ledger(self, task: Task) -> Ledger | None:
        """The budget that the task is paid from."""
        return self.ledgers.get(task.event.tenant_id or "")

    def estimate(self, task: Task, slot: Slot) -> int:
        """What the task will cost there; asked only where the price is known."""
        estimate = self.rules.estimate(task.event, self.rules.model[slot.model], self.gates.now_ms)
        assert estimate is not None
        return estimate

    def _actual(self, work: Unreported, outcome: Outcome | None) -> int:
        """What the work cost: as reported, else of the tokens reported at the prices of its start, else as reserved."""
        if outcome is not None and outcome.cost_usd is not None:
            return round(outcome.cost_usd * 1_000_000)
        reserved, event, model = work.reserved_uusd or 0, work.task.event, self.rules.model.get(work.model)
        if outcome is not None and was_not_taken(outcome):
            reserved = 0
        if outcome is None or model is None:
            return reserved
        cached, thought = outcome.cached_input_tokens, outcome.reasoning_tokens
        if (outcome.input_tokens, outcome.output_tokens, cached, thought) == (None,) * 4:
            return reserved
        asked = event.input_tokens if outcome.input_tokens is None else outcome.input_tokens
        said = self.rules.guess_tokens(event, model) if outcome.output_tokens is None else outcome.output_tokens
        cached = 0 if cached is None or cached > asked else cached
        thought = 0 if thought is None or thought > said else thought
        cost = price(model, asked, said, work.decided_ms, cached, thought)
        return reserved if cost is None else cost

    def _cost(self, work: Unreported, outcome: Outcome | None) -> int | None:
        """What the work cost, or else what it was estimated to cost; None where a price is unknown."""
        model = self.rules.model.get(work.model)
        reported = self._actual(work._replace(reserved_uusd=-1), outcome)
        if reported >= 0:
            return reported
        if outcome is not None and work.reserved_uusd is not None:
            return work.reserved_uusd
        return None if model is None else self.rules.estimate(work.task.event, model, work.decided_ms)

    def _count(self, work: Unreported, uusd: int | None, now_ms: int) -> None:
        """Where spend is capped, what the work cost counts for an hour."""
        if uusd and self.rules.section("breaker").get("limit"):
            self.paid.append((now_ms, work.task.event.tenant_id, work.task.event.lane, uusd))

    def _pay(self, task: Task, actual: int) -> None:
        """What was reserved for the task is free again, less what it cost."""
        ledger = self.ledger(task)
        if ledger is not None and task.reserved_uusd is not None:
            ledger.settle(task.reserved_uusd, actual)
        task.reserved_uusd = None

    # What is usual.

    def look_at_evs(self, now_ms: int) -> None:
        """Recompute P50 and P90 where they are due."""
        rules = self.rules.section("ev")
        oldest = (now_ms - round(rules["window_s"] * 1000)) // 60_000
        evs = sorted(ev for at_ms, ev in self.samples if at_ms // 60_000 >= oldest)
        if self.percentiles is not None and not self.is_old(now_ms) and len(evs) < 2 * self.samples_then:
            return
        self.samples_then = len(evs)
        shares = [self.rules.section(gate)["ev_percentile"] for gate in ("premium", "lift")]
        self.percentiles = None
        if len(evs) >= rules["samples_min"]:
            self.percentiles = (now_ms, quantile(evs, shares[0]), quantile(evs, shares[1]))

    def is_old(self, now_ms: int) -> bool:
        """Whether what is usual may be computed again."""
        return (
            self.percentiles is not None
            and now_ms - self.percentiles[0] >= self.rules.section("ev")["recompute_s"] * 1000
        )

    # What tasks may use, and what they take.

    def look(self, now_ms: int) -> None:
        """From here on the gates are those of this moment."""
        view, spend = self.conditions.in_pool(self.name), self.spend(now_ms)
        self.gates = Gates(self.rules, view, self.slots.values(), now_ms, spend)
        self._known: dict[object, dict[Cell, str | None]] = {}

    def said(self, task: Task, *, closed: bool | None = None, gave_way: bool | None = None) -> dict[Cell, str | None]:
        """The first gate that refuses, for each cell.

        `closed` and `gave_way` stand for what the emergency model and the bar of the class depend on.
        """
        ledger, p50 = self.ledger(task), self.percentiles[1] if self.percentiles is not None else None
        key = (task.id, task.tier_min, p50, ledger.row() if ledger is not None else None, closed, gave_way)
        if key not in self._known:
            self._known[key] = self.gates.cell_verdicts(task, p50, ledger, closed=closed, gave_way=gave_way)
        return self._known[key]

    def verdicts(self, task: Task) -> dict[str, str | None]:
        """The first gate that refuses, for each model."""
        return furthest(self.said(task))

    def is_served(self, task: Task) -> bool:
        """Whether a model that is always a candidate may do it, so that the emergency model may not."""
        return None in [
            gate
            for cell, gate in self.said(task).items()
            if self.gates.is_regular(task, cell[0]) and cell in self.gates.in_service
        ]

    def gives_way(self, task: Task) -> bool:
        """Whether the bar of its class gives way to credit."""
        p50 = self.percentiles[1] if self.percentiles is not None else None
        return self.gates.gives_way(task, p50, self.ledger(task))

    def lifted(self, task: Task) -> bool:
        """Whether it may claim a higher tier than it needs."""
        above = (
            self.percentiles is not None
            and task.ev is not None
            and task.ev > self.percentiles[2] + abs(self.percentiles[2]) * 1e-9
        )
        return above or task.event.quest_priority >= self.rules.section("lift")["quest_priority_min"]

    def headline(self, task: Task) -> str:
        """Why it waits."""
        free = {slot.cell for slot in self.slots.values() if slot.state == "free"}
        ledger = self.ledger(task)
        kept = [cell for cell in free if self.gates.is_paid(task, cell[0], ledger)]
        return headline(self.said(task), kept, self.gates.in_service)

    def scores(self, task: Task) -> dict[str, float]:
        """How good the models are that it may use."""
        return scores(
            self.rules,
            task.event,
            [model for model, gate in self.verdicts(task).items() if gate is None],
            self.gates.now_ms,
        )

    def round(self, now_ms: int, share: dict[str, float]) -> list[Choice]:
        """Who takes which slot in service order; `share` says how busy each model was."""
        return Round(self, now_ms, share).choices()

    def swap_problem(self, choices: list[Choice], chosen: Mapping[str, Slot]) -> str | None:
        """What is wrong with who got which slot in the end, if anything."""
        return swap_problem(self, choices, chosen)

    def points(self, task: Task, now_ms: int) -> int:
        """Priority with ageing."""
        return points(self, task, now_ms)

    def position(self, task: Task, now_ms: int) -> int:
        """Its place in service order, now that nothing is free that it may use."""
        waiting = [one for one in self.tasks.values() if one.state == "waiting"]
        keys = sorted(service_key(self, one, now_ms, only_here=False) for one in waiting)
        return keys.index(service_key(self, task, now_ms, only_here=False)) + 1

    def route(self, task: Task, slot: Slot, now_ms: int, decision_id: str) -> None:
        """The task takes the slot."""
        slot.lease += 1
        self.leases[slot.id] = slot.lease
        self.unreported.pop(slot.id, None)
        slot.state, slot.since_ms, slot.task_id = "leased", now_ms, task.id
        slot.expires_ms = now_ms + self.rules.lease_ms(task.event)
        slot.renewals_left = self.rules.renewals_max(task.event)
        task.state, task.decision_id = "running", decision_id
        if (ledger := self.ledger(task)) is not None:
            task.reserved_uusd = self.estimate(task, slot)
            ledger.reserve(task.reserved_uusd)

    def write_down(self) -> None:
        """End of a step: what began or ended to be busy in it, and why who waits."""
        for slot in self.slots.values():
            if slot.id in self.before and self.before[slot.id].model != slot.model:
                slot.busy = []
            open_ = bool(slot.busy) and slot.busy[-1][1] is None
            if slot.state == "leased" and not open_:
                slot.busy.append([slot.since_ms, None])
            elif slot.state != "leased" and open_:
                slot.busy[-1][1] = slot.since_ms
        waiting = [task for task in self.tasks.values() if task.state == "waiting"]
        kept = [task for task in waiting if self.headline(task) in ("reserved_for_ev", "lost")]
        self.waits_for_evs = bool(kept)
        self.patient_ms = [self.gates.patient_ms(task) for task in kept]


def was_not_taken(outcome: Outcome) -> bool:
    """Whether the vendor had no room for the work."""
    return outcome.status == "failure" and outcome.error_class in ("rate_limited", "overloaded", "quota")


def quantile(ordered: list[float], share: float) -> float:
    """The value below which that share of the samples lies, straight between neighbours."""
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
