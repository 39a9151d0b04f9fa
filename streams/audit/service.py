"""Whether waiting tasks are served, as far as a journal can show it. JSON only.

No slot is free beside a task that may use it (I7), and no task that has waited long is passed over (I6).

What a waiting task may use stands in its last decision: the models with the verdict `busy`, which every gate admits.
That holds until something changes what gates look at; from then on nothing is said of the task until it is decided
about again. A tenant with a budget and a slot whose account has a mark are left out for that reason.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from typing import Any, Final, TypeAlias

from streams.audit.problem import Promise

#: Verdicts on a model that the task may use; beside a waiting task only the first one can be.
_ADMITTED: Final = frozenset(("busy", "ok", "chosen"))
#: Rows after which gates may say something else.
_CHANGES: Final = ("percentiles", "breakers", "spent", "controls", "activated")
_MARKS: Final = ("exhausted", "drains", "quotas")

Fields: TypeAlias = Mapping[str, Any]
Rows: TypeAlias = Mapping[tuple[str, str], Fields]
#: Slots that a step touched, as they were before it; None: there was none.
Before: TypeAlias = Mapping[tuple[str, str], Fields | None]


class _Waiting:
    """A task that waits, and what it may use."""

    def __init__(self, task_id: str, rank_ms: int, models: frozenset[str]) -> None:
        self.task_id = task_id
        #: Its points, as time: the same at every moment, because all tasks age alike.
        self.rank_ms = rank_ms
        self.models = models


class _Pool:
    """The tasks that wait in a pool, by what they may use."""

    def __init__(self) -> None:
        self._tasks: dict[str, _Waiting] = {}
        #: By model, the one with most points first; some wait no longer.
        self._heaps: dict[str, list[tuple[int, int, _Waiting]]] = {}
        #: So many were added: of those with the same points the first one is first.
        self._count = 0

    def put(self, one: _Waiting) -> None:
        """Add a task, in place of what was known of it."""
        self._tasks[one.task_id] = one
        self._count += 1
        for model in one.models:
            heappush(self._heaps.setdefault(model, []), (-one.rank_ms, self._count, one))

    def drop(self, task_id: str) -> None:
        """Forget a task."""
        self._tasks.pop(task_id, None)

    def first(self, model: str) -> _Waiting | None:
        """Return the task with most points that may use a model."""
        heap = self._heaps.get(model, [])
        while heap and self._tasks.get(heap[0][2].task_id) is not heap[0][2]:
            heappop(heap)
        return heap[0][2] if heap else None


class Service:
    """The waiting tasks and the free slots of one partition."""

    def __init__(self, *, ageing_ms: int = 0, patience_points: int = 0) -> None:
        """A task waits `ageing_ms` for a point; from `patience_points` on no other passes it. 0: not checked."""
        self._ageing_ms = ageing_ms
        self._patience_points = patience_points
        self._pools: dict[str, _Pool] = {}
        #: Free slots: id and account, by pool and model.
        self._free: dict[tuple[str, str], dict[str, str | None]] = {}
        #: Whether marks were ever set: they end by themselves, so that a verdict is known for its own step only.
        self._marked = False
        #: Accounts with marks of their own.
        self._accounts: set[str] = set()
        #: Tenants with a budget, by pool.
        self._budgets: set[tuple[str, str]] = set()

    def add(self, step: Fields, tasks: Rows, slots: Rows, before: Before) -> Iterator[tuple[Promise, str]]:
        """Take over a step; `tasks` and `slots` are those after it."""
        if "activated" in step:
            # It decides about all inputs of its step.
            self._take_policy(step["activated"]["policy_text"])
        self._forget(step, slots, before)
        self._take_slots(slots, before)
        decided = self._take_decisions(step, tasks)
        yield from self._idle(decided, slots, before)
        if self._ageing_ms:
            yield from self._passed_over(step)

    def _forget(self, step: Fields, slots: Rows, before: Before) -> None:
        """Forget what a task may use where that may be something else now."""
        marks = [row for name in _MARKS for row in step.get(name, ())]
        self._marked = self._marked or bool(marks)
        self._accounts.update(row["account"] for row in marks if row.get("account") is not None)
        self._budgets.update((row["pool"], row["tenant_id"]) for row in step.get("ledgers", ()))
        if self._marked or any(step.get(name) for name in _CHANGES):
            self._pools.clear()
        for (pool, slot_id), was in before.items():
            now = slots.get((pool, slot_id))
            # A model that comes, goes or is lost counts for what others are kept for.
            if now is None or was is None or now["model"] != was["model"] or "lost" in (now["state"], was["state"]):
                self._pools.pop(pool, None)
        for row in (*step.get("finished", ()), *step.get("moved", ()), *(row["task"] for row in step.get("tasks", ()))):
            if (pool_of := self._pools.get(row["pool"])) is not None:
                pool_of.drop(row["task_id"])

    def _take_slots(self, slots: Rows, before: Before) -> None:
        for (pool, slot_id), was in before.items():
            if was is not None:
                self._free.get((pool, was["model"]), {}).pop(slot_id, None)
            now = slots.get((pool, slot_id))
            if now is not None and now["state"] == "free":
                self._free.setdefault((pool, now["model"]), {})[slot_id] = now.get("account")

    def _take_decisions(self, step: Fields, tasks: Rows) -> list[tuple[str, _Waiting]]:
        """Take over what waits; gives the tasks that were decided about, each with its pool."""
        found = []
        for decision in step.get("decisions", ()):
            pool, task_id = decision["pool"], decision["task_id"]
            status = tasks.get((pool, task_id), {})
            if decision["outcome"] != "waiting" or status.get("state") != "waiting":
                continue
            if (pool, decision.get("tenant_id")) in self._budgets:
                continue
            models = frozenset(model for model, row in decision["alternatives"].items() if row["gate"] in _ADMITTED)
            one = _Waiting(task_id, decision["priority"] * self._ageing_ms - status["since_ms"], models)
            self._pools.setdefault(pool, _Pool()).put(one)
            found.append((pool, one))
        return found

    def _idle(self, decided: list[tuple[str, _Waiting]], slots: Rows, before: Before) -> Iterator[tuple[Promise, str]]:
        """Report slots that are free beside tasks that may use them, of what the step touched."""
        pairs = {(pool, model): one.task_id for pool, one in reversed(decided) for model in sorted(one.models)}
        for pool, slot_id in before:
            row = slots.get((pool, slot_id))
            if row is not None and row["state"] == "free" and pool in self._pools:
                first = self._pools[pool].first(row["model"])
                if first is not None:
                    pairs.setdefault((pool, row["model"]), first.task_id)
        for (pool, model), task_id in sorted(pairs.items()):
            free = self._free.get((pool, model), {})
            idle = next((id_ for id_, account in free.items() if account not in self._accounts), None)
            if idle is not None:
                yield "idle", f"{idle} of pool {pool} is free beside {task_id}, which waits and may use {model}"

    def _passed_over(self, step: Fields) -> Iterator[tuple[Promise, str]]:
        """Report decisions that gave a slot to a task before one that has waited to patience and has more points."""
        for decision in step.get("decisions", ()):
            pool = self._pools.get(decision["pool"])
            if decision["outcome"] != "routed" or pool is None or decision.get("chosen_account") in self._accounts:
                continue
            model, at_ms = decision["chosen_model"], decision["decided_at_ms"]
            first = pool.first(model)
            if first is None:
                continue
            began_ms = min(decision["at_ms"], decision["waiting_since_ms"])
            points = (decision["priority"] * self._ageing_ms - began_ms + at_ms) / self._ageing_ms
            others = (first.rank_ms + at_ms) / self._ageing_ms
            # By more than a point, because points are counted by whole turns of a clock.
            if others - 1 > max(points, self._patience_points):
                served = (
                    f"{decision['task_id']} of pool {decision['pool']} is served by {model} with {points:.0f} points"
                )
                yield "service", f"{served} before {first.task_id}, which may use it and has {others:.0f}"

    def _take_policy(self, text: str) -> None:
        """Take over what an activated policy says of waiting; without that it is not checked any more."""
        try:
            said = tomllib.loads(text)["service"]
            self._ageing_ms = max(1, round(said["ageing_s_per_point"] * 1000))
            self._patience_points = int(said["patience_points"])
        except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError):
            self._ageing_ms = 0
