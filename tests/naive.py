"""The rules of routing said again, slowly: lists, sorts and full scans, to hold the router to.

It shares the events and no other code with the router, reads the shipped numbers itself, and indexes nothing. Where
the rules leave a choice (which of two equal trades), it says what must hold of any choice and takes over the
router's. One step is one moment for utilisation: a slot given back and taken again in a step was busy throughout, and
one that leaves and comes back in a step keeps its past, until it runs another model.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from schemas.events import SlotFreed, SlotRetired, TaskCancelled, TaskPending, Tick
from schemas.input import Input, Unreadable
from schemas.vocabulary import to_millis

DEPLOY = Path(__file__).parent.parent / "deploy"
GATES = ("capability", "context", "boundary", "floor", "exhausted", "drained", "quota", "premium", "credit")
HEADLINES = {"capability": "no_capable_model", "premium": "reserved_for_ev"}
WINDOW_MS = 5 * 60_000
#: A percentile is known to so many parts of itself: an EV that equals it is neither below nor above.
EXACT = 1e-9


class Task:
    """A task that is not finished."""

    def __init__(self, event: TaskPending, ev: float | None, now_ms: int) -> None:
        self.event, self.id, self.ev = event, event.task_id, ev
        self.state, self.attempt, self.failures, self.tier_min = "waiting", event.attempt, 0, 1
        self.since_ms = min(to_millis(event.at), now_ms)
        self.due_ms = 0
        self.deadline_ms = to_millis(event.deadline) if event.deadline is not None else None
        self.cancelled = False
        if event.not_before is not None and (due_ms := to_millis(event.not_before)) > self.since_ms:
            self.since_ms = self.due_ms = due_ms
            self.state = "held" if due_ms > now_ms else "waiting"


class Slot:
    """A slot in service, or a retired one that still holds a task."""

    def __init__(self, id_: str, model: str, lease: int, since_ms: int) -> None:
        self.id, self.model, self.lease, self.since_ms = id_, model, lease, since_ms
        self.state, self.retired, self.task_id, self.expires_ms = "free", False, "", 0
        #: When it was busy: [from, to], an open end is None.
        self.busy: list[list[int | None]] = []

    def busy_ms(self, now_ms: int) -> int:
        """How long it was busy in the last five minutes."""
        spans = [(max(start or 0, now_ms - WINDOW_MS), now_ms if end is None else end) for start, end in self.busy]
        return sum(max(0, end - start) for start, end in spans)


class NaivePool:
    """One pool, decided by looking at everything."""

    def __init__(self, name: str, models: list[dict[str, Any]], policy: dict[str, Any]) -> None:
        self.name, self.models, self.policy = name, models, policy
        self.tier = {model["id"]: model["tier"] for model in models}
        self.tasks: dict[str, Task] = {}
        self.slots: dict[str, Slot] = {}
        self.leases: dict[str, int] = {}
        self.finished: dict[str, int] = {}
        self.early_cancels: dict[str, int] = {}
        self.samples: list[tuple[int, float]] = []
        self.usual: tuple[int, float, float] | None = None
        self.ended: dict[str, str] = {}
        self.rejected = 0
        #: The slots as they were before the step.
        self.before: dict[str, Slot] = {}

    # What events do.

    def pass_time(self, now_ms: int) -> bool:
        """Let everything happen that fell due, in its order; whether the pool must be looked at."""
        some = self._is_old(now_ms) and self._some_wait_for_evs()
        while due := sorted(due for due in self._dues() if due[0] <= now_ms):
            some = True
            at_ms, kind, id_ = due[0]
            if kind == "deadline":
                self._end(self.tasks[id_], "expired", at_ms)
            elif kind == "due":
                self.tasks[id_].state = "waiting"
            else:
                slot = self.slots[id_]
                self._again(slot, at_ms)
                slot.state, slot.since_ms = "lost", at_ms
                if slot.retired:
                    del self.slots[id_]
        return some

    def _dues(self) -> Iterable[tuple[int, str, str]]:
        for task in self.tasks.values():
            if task.state != "running" and task.deadline_ms is not None:
                yield task.deadline_ms, "deadline", task.id
            if task.state == "held":
                yield task.due_ms, "due", task.id
        for slot in self.slots.values():
            if slot.state == "held":
                yield slot.expires_ms, "lease", slot.id

    def pend(self, event: TaskPending, now_ms: int) -> None:
        """A task arrives, or arrives again."""
        if event.task_id in self.tasks or event.task_id in self.finished:
            return
        floor = self.tier.get(event.floor_model, 0) if event.floor_model is not None else 1
        if not floor or floor > (event.max_tier or 3):
            self.rejected += 1
            return
        parts = (event.importance, event.tractability, event.impact, event.estimated_cost)
        ev = event.ev
        if ev is None and None not in parts and event.estimated_cost:
            ev = parts[0] * parts[1] * parts[2] / parts[3]  # type: ignore[operator]  # none of them is None
        if ev is not None:
            self.samples.append((now_ms, ev))
        task = self.tasks[event.task_id] = Task(event, ev, now_ms)
        if event.task_id in self.early_cancels:
            self._end(task, "cancelled", now_ms)
        elif task.deadline_ms is not None and task.deadline_ms <= now_ms:
            self._end(task, "expired", now_ms)

    def free(self, event: SlotFreed, now_ms: int) -> None:
        """A slot announces itself, is given back, or says something stale."""
        slot = self.slots.get(event.slot_id)
        left = slot is None and event.slot_id in self.leases and event.lease is not None
        if event.model not in (None, *self.tier) or (slot is None and event.model is None and not left):
            self.rejected += 1
            return
        if slot is None:
            if not left:
                self._register(event.slot_id, event.model or "", now_ms)
            return
        if event.lease is not None:
            if slot.state != "held" or event.lease != slot.lease:
                return
            self._give_back(slot, event, now_ms)
        elif slot.state == "held":
            if min(to_millis(event.at), now_ms) <= slot.since_ms:
                return
            self._again(slot, now_ms)
        if slot.retired and event.lease is not None:
            del self.slots[slot.id]
        elif event.model not in (None, slot.model):
            self._register(slot.id, event.model or "", now_ms)
        elif slot.state != "free":
            slot.state, slot.since_ms, slot.retired = "free", now_ms, False

    def _register(self, slot_id: str, model: str, now_ms: int) -> None:
        slot = self.slots[slot_id] = Slot(slot_id, model, self.leases.setdefault(slot_id, 0), now_ms)
        if slot_id in self.before:
            slot.busy = self.before[slot_id].busy

    def _give_back(self, slot: Slot, event: SlotFreed, now_ms: int) -> None:
        task = self.tasks[slot.task_id]
        ours = event.outcome is not None and event.outcome.task_id == task.id
        status = event.outcome.status if ours and event.outcome is not None else "success"
        on_failure, tier = task.event.on_failure, self.tier[slot.model]
        if task.cancelled:
            self._end(task, "cancelled", now_ms)
        elif status != "failure":
            self._end(task, {"success": "done"}.get(status, status), now_ms)
        elif on_failure == "drop":
            self._end(task, "dropped", now_ms)
        elif on_failure == "escalate" and tier >= (task.event.max_tier or 3):
            self._end(task, "dead_lettered", now_ms)
        else:
            self._again(slot, now_ms, tier + 1 if on_failure == "escalate" else task.tier_min)

    def _again(self, slot: Slot, now_ms: int, tier_min: int | None = None) -> None:
        task = self.tasks[slot.task_id]
        if task.cancelled:
            self._end(task, "cancelled", now_ms)
            return
        task.failures += 1
        task.attempt += 1
        task.state, task.since_ms, task.tier_min = "waiting", now_ms, tier_min or task.tier_min
        if task.failures >= self.policy["attempts"]["failures_max"]:
            self._end(task, "dead_lettered", now_ms)
        elif task.deadline_ms is not None and task.deadline_ms <= now_ms:
            self._end(task, "expired", now_ms)
        elif pause_ms := round(self.policy["attempts"]["back_off_s"] * 1000):
            task.state, task.due_ms, task.since_ms = "held", now_ms + pause_ms, now_ms + pause_ms

    def cancel(self, task_id: str, now_ms: int) -> None:
        """The producer no longer wants it."""
        task = self.tasks.get(task_id)
        if task is not None and task.state == "running":
            task.cancelled = True
        elif task is not None:
            self._end(task, "cancelled", now_ms)
        elif task_id not in self.finished:
            self.early_cancels[task_id] = now_ms

    def retire(self, slot_id: str) -> None:
        """The slot gets nothing new."""
        slot = self.slots.get(slot_id)
        if slot is not None and slot.state == "held":
            slot.retired = True
        elif slot is not None:
            del self.slots[slot_id]

    def _end(self, task: Task, how: str, now_ms: int) -> None:
        del self.tasks[task.id]
        self.early_cancels.pop(task.id, None)
        self.finished[task.id] = now_ms
        self.ended[task.id] = how

    # What is usual.

    def look_at_evs(self, now_ms: int) -> None:
        """Recompute P50 and P90 where they are due."""
        rules = self.policy["ev"]
        if self.usual is not None and not self._is_old(now_ms):
            return
        oldest = (now_ms - round(rules["window_s"] * 1000)) // 60_000
        evs = sorted(ev for at_ms, ev in self.samples if at_ms // 60_000 >= oldest)
        shares = (self.policy["premium"]["ev_percentile"], self.policy["lift"]["ev_percentile"])
        self.usual = (now_ms, *(quantile(evs, q) for q in shares)) if len(evs) >= rules["samples_min"] else None  # type: ignore[assignment]  # two of them

    def _is_old(self, now_ms: int) -> bool:
        return self.usual is not None and now_ms - self.usual[0] >= self.policy["ev"]["recompute_s"] * 1000

    def _some_wait_for_evs(self) -> bool:
        """Whether somebody waits for no other reason than what was usual."""
        return any(task.state == "waiting" and self.headline(task) == "reserved_for_ev" for task in self.tasks.values())

    # What a task may use.

    def verdicts(self, task: Task) -> dict[str, str | None]:
        """The first gate that refuses, for each model of the fleet."""
        fleet = {slot.model for slot in self.slots.values() if not slot.retired}
        models = [model for model in self.models if model["id"] in fleet]
        said = {model["id"]: self._able(task, model) for model in models}
        low = self.usual is not None and (task.ev is None or task.ev < self.usual[1] - abs(self.usual[1]) * EXACT)
        cheaper = any(gate is None and self.tier[model] < 3 for model, gate in said.items())
        if low and cheaper and task.event.priority < self.policy["premium"]["priority_min"]:
            said = {
                model: "premium" if gate is None and self.tier[model] == 3 else gate for model, gate in said.items()
            }
        return said

    def _able(self, task: Task, model: dict[str, Any]) -> str | None:
        event, output, bars = task.event, self.policy["output"], self.policy["complexity_tier_min"]
        answer = output["default_tokens"]
        if event.complexity is not None:
            answer = output["by_complexity_tokens"][event.complexity]
        elif event.output_tokens is not None:
            answer = max(1, int(event.output_tokens * output["headroom"]))
        floor = max(task.tier_min, self.tier.get(event.floor_model or "", 1), bars.get(event.complexity, 1))
        if any(model["ratings"][dimension] < bar for dimension, bar in event.requires.items()):
            return "capability"
        if event.input_tokens + min(answer, model["output_tokens_max"]) > model["context_window"]:
            return "context"
        if (
            model["provider"] in event.deny_providers
            or (event.allow_providers and model["provider"] not in event.allow_providers)
            or (event.local_only and not model["local"])
            or model["tier"] > (event.max_tier or 3)
        ):
            return "boundary"
        return "floor" if model["tier"] < floor else None

    def lifted(self, task: Task) -> bool:
        """Whether it may claim a higher tier than it needs."""
        above = self.usual is not None and task.ev is not None and task.ev > self.usual[2] + abs(self.usual[2]) * EXACT
        return above or task.event.quest_priority >= self.policy["lift"]["quest_priority_min"]

    def headline(self, task: Task) -> str:
        """Why it waits."""
        said = self.verdicts(task)
        free = {slot.model for slot in self.slots.values() if slot.state == "free"}
        if any(gate == "premium" and model in free for model, gate in said.items()):
            return "reserved_for_ev"
        if None in said.values():
            return "capable_busy"
        furthest = max((GATES.index(gate) for gate in said.values() if gate is not None), default=0)
        return HEADLINES.get(GATES[furthest], GATES[furthest])

    # The round.

    def round(self, now_ms: int, share: dict[str, float]) -> tuple[list[tuple[Task, Slot]], list[int]]:
        """Who takes which slot in service order, and the tiers by falling EV that trading can reach.

        `share` is how busy each model was, which decides between slots that were equally busy.
        """
        free = {slot.id: slot for slot in self.slots.values() if slot.state == "free"}
        may = {
            task.id: {slot.id for slot in free.values() if said.get(slot.model, "") is None}
            for task in self.tasks.values()
            if task.state == "waiting" and (said := self.verdicts(task)) is not None
        }
        waiting = sorted(
            (self.tasks[id_] for id_ in may), key=lambda task: self._service(task, len(may[task.id]), now_ms)
        )
        pairs = []
        for task in waiting:
            open_to = [free[id_] for id_ in may[task.id] if id_ in free]
            if open_to:
                sign = -1 if self.lifted(task) else 1
                slot = min(
                    open_to, key=lambda s: (sign * self.tier[s.model], s.busy_ms(now_ms), share.get(s.model, 0), s.id)
                )
                pairs.append((task, free.pop(slot.id)))
        return pairs, self.best_tiers(pairs)

    def _service(self, task: Task, open_to: int, now_ms: int) -> tuple[Any, ...]:
        aged = task.event.priority + (now_ms - task.since_ms) // round(
            self.policy["service"]["ageing_s_per_point"] * 1000
        )
        ev = float("inf") if task.ev is None else -task.ev
        return not self.lifted(task), open_to != 1, -aged, ev, task.since_ms, task.id

    def position(self, task: Task, now_ms: int) -> int:
        """Its place in service order, now that nothing is free that it may use."""
        waiting = [self._service(one, 0, now_ms) for one in self.tasks.values() if one.state == "waiting"]
        return sorted(waiting).index(self._service(task, 0, now_ms)) + 1

    def best_tiers(self, pairs: list[tuple[Task, Slot]]) -> list[int]:
        """Tiers of the pairs by falling EV (unknown EVs left out), as high as the gates allow from the first on."""
        known = sorted((task for task, _ in pairs if task.ev is not None), key=lambda task: -(task.ev or 0))
        unknown = [task for task, _ in pairs if task.ev is None]
        line = [(1, self.verdicts(task)) for task in known] + [(0, self.verdicts(task)) for task in unknown]
        models = sorted(self.tier)

        @cache
        def best(place: int, left: tuple[int, ...]) -> tuple[int, ...] | None:
            if place == len(line):
                return ()
            found = []
            counts, said = line[place]
            for i, model in enumerate(models):
                if left[i] and said.get(model, "") is None:
                    rest = best(place + 1, (*left[:i], left[i] - 1, *left[i + 1 :]))
                    if rest is not None:
                        found.append((self.tier[model], *rest) if counts else rest)
            return max(found, default=None)

        return list(best(0, tuple(sum(slot.model == model for _, slot in pairs) for model in models)) or ())

    def route(self, task_id: str, slot_id: str, now_ms: int) -> None:
        """The task takes the slot."""
        task, slot = self.tasks[task_id], self.slots[slot_id]
        leases = self.policy["leases"]
        limit_s = leases["by_complexity_s"].get(task.event.complexity, leases["default_s"])
        slot.lease += 1
        self.leases[slot.id] = slot.lease
        slot.state, slot.since_ms, slot.task_id, slot.expires_ms = (
            "held",
            now_ms,
            task_id,
            now_ms + round(limit_s * 1000),
        )
        task.state = "running"

    def write_down_use(self) -> None:
        """End of a step: what began or ended to be busy in it."""
        for slot in self.slots.values():
            if slot.id in self.before and self.before[slot.id].model != slot.model:
                slot.busy = []
            open_ = bool(slot.busy) and slot.busy[-1][1] is None
            if slot.state == "held" and not open_:
                slot.busy.append([slot.since_ms, None])
            elif slot.state != "held" and open_:
                slot.busy[-1][1] = slot.since_ms


class Naive:
    """All pools of a partition."""

    def __init__(self, **sections: dict[str, Any]) -> None:
        self.catalog = tomllib.loads((DEPLOY / "catalog.toml").read_text("utf-8"))["model"]
        self.policy = tomllib.loads((DEPLOY / "policy.toml").read_text("utf-8"))
        for section, changed in sections.items():
            self.policy[section] |= changed
        self.pools: dict[str, NaivePool] = {}
        self._controls: set[str] = set()

    def pool(self, name: str) -> NaivePool:
        """The pool of that name."""
        return self.pools.setdefault(name, NaivePool(name, self.catalog, self.policy))

    def remember(self, batch: list[Input], also: Iterable[str] = ()) -> list[str]:
        """What the inputs do before anything is decided; the pools they concern, and those looked at anyway."""
        touched: dict[str, None] = dict.fromkeys(also)
        for pool in self.pools.values():
            pool.ended, pool.rejected = {}, 0
            pool.before = dict(pool.slots)
        for item in batch:
            for pool in self.pools.values():
                if pool.pass_time(item.now_ms):
                    touched[pool.name] = None
            self._one(item, touched)
        for name in touched:
            self.pools[name].look_at_evs(batch[-1].now_ms)
        return list(touched)

    def _one(self, item: Input, touched: dict[str, None]) -> None:
        event = item.event
        if isinstance(event, Tick | Unreadable) or event.pool is None:
            return
        if isinstance(event, TaskCancelled | SlotRetired):
            if event.control_id in self._controls:
                return
            self._controls.add(event.control_id)
        pool = self.pool(event.pool)
        touched[event.pool] = None
        match event:
            case TaskPending():
                pool.pend(event, item.now_ms)
            case SlotFreed():
                pool.free(event, item.now_ms)
            case TaskCancelled():
                pool.cancel(event.task_id, item.now_ms)
            case SlotRetired():
                pool.retire(event.slot_id)
            case _:
                raise AssertionError(f"the naive model knows no {type(event).__name__}")


def quantile(ordered: list[float], share: float) -> float:
    """The value below which that share of the samples lies, straight between neighbours."""
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
