"""A round: who is served in which order, which slot each takes, and what trading within the round may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.reference.gates import furthest
from tests.reference.score import scores
from tests.reference.slot import WINDOW_MS, Slot
from tests.reference.task import Task

if TYPE_CHECKING:
    from tests.reference.pool import ReferencePool

Cell = tuple[str, str | None]


@dataclass
class Choice:
    """A task, the slot it takes by its strategy, and what it saw when it was looked at."""

    task: Task
    slot: Slot
    #: The strategy that found the slot, and what the decision calls it.
    by: str
    code: str
    said: dict[Cell, str | None]
    scores: dict[str, float]
    #: What its tenant has left then; None: no budget.
    available: int | None
    #: What decided for the slot, and what put other models of those that the strategy left behind it.
    because: str = ""
    #: The bar of its class had given way to credit.
    gave_way: bool = False
    behind: dict[str, str] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[str, str | None]:
        """The first gate that refuses, for each model."""
        return furthest(self.said)


class Round:
    """Everything that waits in a pool and everything that is free, looked at together."""

    def __init__(self, pool: ReferencePool, now_ms: int, share: Mapping[str, float]) -> None:
        self.pool, self.now_ms, self.share = pool, now_ms, share
        self.free = {slot.id: slot for slot in pool.slots.values() if slot.state == "free"}
        self.served: set[str] = set()

    def choices(self) -> list[Choice]:
        """Which task takes which slot, before swaps: turn by turn, until a turn serves no task."""
        choices: list[Choice] = []
        while turn := self._turn():
            choices += turn
        # Who gets which of these slots in the end is not said yet.
        for choice in choices:
            if (ledger := self.pool.ledger(choice.task)) is not None:
                ledger.settle(self.pool.estimate(choice.task, choice.slot), 0)
        return choices

    def _turn(self) -> list[Choice]:
        pool = self.pool
        if not self.free:
            return []
        waiting = [task for task in pool.tasks.values() if task.state == "waiting" and task.id not in self.served]
        #: The emergency model does not open in the middle of a turn.
        self.closed = {task.id: pool.is_served(task) for task in waiting}
        #: Nor does the bar of a class give way there.
        self.gave_way = {task.id: pool.gives_way(task) for task in waiting}
        only_here = {task.id for task in waiting if len(self._open_to(task)) == 1}
        waiting.sort(key=lambda task: service_key(pool, task, self.now_ms, only_here=task.id in only_here))
        turn = []
        for task in waiting:
            if self._open_to(task):
                choice = self._choose(task)
                del self.free[choice.slot.id]
                self.served.add(task.id)
                turn.append(choice)
                if (ledger := pool.ledger(task)) is not None:
                    ledger.reserve(pool.estimate(task, choice.slot))
        return turn

    def _said(self, task: Task) -> dict[Cell, str | None]:
        return self.pool.said(task, closed=self.closed[task.id], gave_way=self.gave_way[task.id])

    def _open_to(self, task: Task) -> list[Slot]:
        said = self._said(task)
        return [slot for slot in self.free.values() if said[slot.cell] is None]

    def _choose(self, task: Task) -> Choice:
        rules, said, open_to = self.pool.rules, self._said(task), self._open_to(task)
        ledger = self.pool.ledger(task)
        passed = [model for model, gate in furthest(said).items() if gate is None]
        found = Choice(
            task, open_to[0], rules.word(task.event), "", said, scores(rules, task.event, passed, self.now_ms),
            ledger.available if ledger is not None else None, gave_way=self.gave_way[task.id],
        )  # fmt: skip
        for model in rules.liked(task):
            if liked := [slot for slot in open_to if slot.model == model]:
                found.code = "preference"
                self._take(found, liked)
                return found
        if found.by not in ("cheapest_capable", "objective"):
            found.by = rules.otherwise()
        tier = rules.tier
        if found.by == "objective":
            found.code = "objective"
            best = max(found.scores[one.model] for one in open_to)
            left = [one for one in open_to if found.scores[one.model] == best]
            self._take(found, [one for one in left if tier[one.model] == min(tier[other.model] for other in left)])
        else:
            lifted = self.pool.lifted(task)
            found.code = "lifted" if lifted else "cheapest_capable"
            wanted = (max if lifted else min)(tier[one.model] for one in open_to)
            self._take(found, [one for one in open_to if tier[one.model] == wanted])
        return found

    def _take(self, found: Choice, left: list[Slot]) -> None:
        """Of the slots that the strategy left, the first; and what the nearest other one differs in."""
        keys = {slot.id: self._key(found, slot) for slot in left}
        slot = found.slot = min(left, key=lambda one: keys[one.id])
        near = keys[slot.id][0]
        others = [one for one in left if one is not slot]
        close = [one for one in others if keys[one.id][0] == near]
        for model in {one.model for one in others} - {slot.model}:
            best = min(keys[one.id] for one in others if one.model == model)
            found.behind[model] = _difference(keys[slot.id], best)
        if not others:
            found.because = "only_free"
        elif near == 0 or not close:
            found.because = "affinity_slot" if near == 0 else "affinity_account"
        else:
            rivals = [one for one in close if one.model != slot.model] or close
            found.because = _difference(keys[slot.id], min(keys[one.id] for one in rivals))

    def _key(self, found: Choice, slot: Slot) -> tuple[Any, ...]:
        """The smaller, the sooner it is taken: context, use of slot and model in steps, cost, score, id."""
        rules, there = self.pool.rules, found.task.event.affinity
        near = 2
        if there is not None and there.slot_id == slot.id:
            near = 0
        elif there is not None and there.account is not None and there.account == slot.account:
            near = 1
        step_ms = round(WINDOW_MS * rules.section("strategy")["utilisation_step_share"])
        cost = rules.estimate(found.task.event, rules.model[slot.model], self.now_ms)
        return (
            near,
            slot.busy_ms(self.now_ms) // step_ms,
            self.share.get(slot.model, 0) // step_ms,
            (cost is None, cost),
            -found.scores[slot.model],
            slot.id,
        )


def _difference(one: tuple[Any, ...], other: tuple[Any, ...]) -> str:
    """The first thing in which two slots differ."""
    words = ("affinity_slot" if one[0] == 0 else "affinity_account", "least_used", "model_share", "cost", "score", "id")
    return next(word for word, mine, its in zip(words, one, other, strict=True) if mine != its)


def points(pool: ReferencePool, task: Task, now_ms: int) -> int:
    """Priority with ageing, in whole points."""
    ageing_s: float = pool.rules.section("service")["ageing_s_per_point"]
    return task.event.priority + (now_ms - task.since_ms) // round(ageing_s * 1000)


def service_key(pool: ReferencePool, task: Task, now_ms: int, *, only_here: bool) -> tuple[Any, ...]:
    """The smaller, the sooner it is served."""
    aged = points(pool, task, now_ms)
    ev = float("inf") if task.ev is None else -task.ev
    rank = (not pool.lifted(task), not only_here)
    if aged >= pool.rules.section("service")["patience_points"]:
        rank = (False, False)
    return *rank, -aged, ev, task.since_ms, task.id


def swap_problem(pool: ReferencePool, choices: list[Choice], chosen: Mapping[str, Slot]) -> str | None:
    """What is wrong with who got which slot in the end, if anything.

    `chosen` may have more tasks: where a trade gave a tenant money back, others of it are served after that.
    """
    mine = {choice.task.id: choice.slot for choice in choices}
    swappers = [choice for choice in choices if choice.code in ("cheapest_capable", "lifted")]
    trading = {choice.task.id for choice in swappers}
    if any(chosen[id_] is not slot for id_, slot in mine.items() if id_ not in trading):
        return "a slot that is not cheapest_capable's was traded"
    later = len(chosen) > len(choices)
    if not later and sorted(slot.id for slot in mine.values()) != sorted(slot.id for slot in chosen.values()):
        return "other slots were taken"
    for choice in swappers:
        gate = choice.said[chosen[choice.task.id].cell]
        if gate is not None and chosen[choice.task.id].cell not in _payable(pool, choice):
            return f"{gate} was opened for {choice.task.id}"
    for choice in swappers:
        ledger = pool.ledger(choice.task)
        if ledger is not None:
            tenant = [pool.tasks[id_] for id_ in chosen if pool.ledger(pool.tasks[id_]) is ledger]
            spent = sum(pool.estimate(task, chosen[task.id]) for task in tenant)
            if spent > max(0, ledger.available):
                return f"{choice.task.event.tenant_id} is overdrawn"
    if later:
        return None
    known = sorted((c.task for c in swappers if c.task.ev is not None), key=lambda task: -(task.ev or 0))
    before = [pool.rules.tier[mine[task.id].model] for task in known]
    after = [pool.rules.tier[chosen[task.id].model] for task in known]
    best = _best_tiers(pool, swappers)
    if all(choice.available is None for choice in swappers):
        if after != best:
            return f"better tiers went to lower EVs: {after}, not {best}"
        if before == best and any(chosen[id_] is not mine[id_] for id_ in trading):
            return "another slot was taken, and nothing is gained by it"
    elif not before <= after <= best:
        return f"trading changed {before} to {after}; the best is {best}"
    return None


def _best_tiers(pool: ReferencePool, swappers: list[Choice]) -> list[int]:
    """Tiers of the traders by falling EV (unknown EVs left out), as high as the gates allow from the first on."""
    known = sorted((choice for choice in swappers if choice.task.ev is not None), key=lambda one: -(one.task.ev or 0))
    line = [(1, _payable(pool, one)) for one in known]
    line += [(0, _payable(pool, one)) for one in swappers if one.task.ev is None]
    cells = sorted({one.slot.cell for one in swappers}, key=str)

    @cache
    def best(place: int, left: tuple[int, ...]) -> tuple[int, ...] | None:
        if place == len(line):
            return ()
        found = []
        counts, open_to = line[place]
        for i, cell in enumerate(cells):
            if left[i] and cell in open_to:
                rest = best(place + 1, (*left[:i], left[i] - 1, *left[i + 1 :]))
                if rest is not None:
                    found.append((pool.rules.tier[cell[0]], *rest) if counts else rest)
        return max(found, default=None)

    return list(best(0, tuple(sum(one.slot.cell == cell for one in swappers) for cell in cells)) or ())


def _payable(pool: ReferencePool, one: Choice) -> set[Cell]:
    """The cells that the gates open to it, or would if its tenant had more."""
    return {
        cell
        for cell, gate in one.said.items()
        if gate is None
        or (gate == "credit" and one.available is not None and not pool.gates.is_barred(one.task, cell[0]))
    }
