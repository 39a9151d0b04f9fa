"""Whatever happens in whatever order, the router decides as the rules said slowly do, and keeps its promises."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.decision import Decision, SlotRow, Step
from schemas.events import Event, TaskPending
from schemas.input import Unreadable
from schemas.vocabulary import GATES, Millis
from streams.router import Router
from streams.state.utilisation import SHORT_MS
from tests.builders import START_MS, cancelled, freed, inputs, retired, rulebook, slot, task, tick
from tests.desk import Desk, picture
from tests.naive import Naive, NaivePool

FLEET = ("opus-1", "opus-2", "gpt-5-1", "sonnet-1", "codex-1", "haiku-1", "haiku-2", "glm-1", "gemini-flash-1")
POOLS = ("main",) * 9 + ("side",)
DAY_MS = 24 * 3_600_000
FLEETS = st.one_of(
    st.sets(st.sampled_from(FLEET), min_size=3).map(sorted),
    st.sampled_from([[], ["opus-1", "opus-2", "haiku-1"], ["gpt-5-1", "opus-1", "sonnet-1", "glm-1"]]),
)
#: Makes an event from where the router stands; it is asked for when its turn in the batch comes.
Making = Callable[["Routing"], Event | Unreadable]

EVS = st.sampled_from([None, -3.0, 0.0, 1.0, 2.0, 2.5, 5.0, 7.0, 8.0, 9.0, 40.0]) | st.floats(-10, 100)
PROVIDERS = st.sampled_from([("anthropic",), ("openai",), ("google", "anthropic")])
ON_FAILURE = st.sampled_from(["retry", "escalate", "escalate", "drop"])
#: What a task may say beside its EV and priority: a few of these.
QUIRKS: dict[str, st.SearchStrategy[Any]] = {
    "requires": st.sampled_from(
        [{"coding": 4}, {"coding": 6}, {"coding": 9}, {"safety": 9}, {"reasoning": 10, "speed": 3}]
    ),
    "quest_priority": st.sampled_from([94, 95, 100]),
    "importance": st.sampled_from([0.0, 1.0, 3.0]),
    "tractability": st.just(2.0),
    "impact": st.just(0.5),
    "estimated_cost": st.sampled_from([0.0, 0.25, 1.0]),
    "complexity": st.sampled_from(["trivial", "simple", "standard", "complex", "expert"]),
    "floor_model": st.sampled_from(["haiku", "sonnet", "codex", "opus", "oopus"]),
    "max_tier": st.sampled_from([1, 2, 3]),
    "allow_providers": PROVIDERS,
    "deny_providers": PROVIDERS,
    "local_only": st.just(True),
    "input_tokens": st.sampled_from([250_000, 271_000, 915_000, 995_000, 2_000_000]),
    "output_tokens": st.sampled_from([0, 100, 5_000, 100_000, 900_000]),
    "on_failure": ON_FAILURE,
    "attempt": st.just(4),
    "deadline_ms": st.sampled_from([-5_000, 0, 1, 60_000, 500_000, 500_000, 4_000_000, 4_000_000]),
    "not_before_ms": st.sampled_from([-5_000, 0, 1, 60_000, 500_000]),
    "at_ms": st.sampled_from([-7_200_000, -61_000, -1, 5_000]),
}
QUIRK = st.one_of([st.tuples(st.just(name), values) for name, values in QUIRKS.items()])
TASKS = st.builds(
    lambda ev, priority, quirks: {"ev": ev, "priority": priority, **dict(quirks)},
    EVS,
    st.sampled_from([0, 49, 50, 50, 51, 89, 90, 100]),
    st.lists(QUIRK, max_size=3),
)
TIMES = ("at_ms", "deadline_ms", "not_before_ms")
STATUS = st.sampled_from(["success", "success", "failure", "failure", "cancelled", None])


def pending(number: int, fields: dict[str, Any], pool: str) -> Making:
    """A task; its times are told from the present."""

    def make(desk: Routing) -> Event:
        now_ms = desk.desk.now_ms
        timed = {"at_ms": now_ms} | {name: now_ms + ms for name, ms in fields.items() if name in TIMES}
        plain = {name: said for name, said in fields.items() if name not in TIMES}
        return task(desk.name(number), pool=pool, **plain, **timed)

    return make


def announced(slot_id: str, model: str | None, pool: str, at_ms: int) -> Making:
    """A slot says that it is there, or there again."""
    return lambda desk: slot(slot_id, model, pool=pool, at_ms=desk.desk.now_ms + at_ms)


def given_back(pick: int, status: str | None, older: int, other: int, model: bool) -> Making:
    """One of the slots is given back: rightly, or under another lease, or with another task's outcome."""

    def make(desk: Routing) -> Event:
        held = desk.held()
        if not held:
            return freed("haiku-1", 1, at_ms=desk.desk.now_ms)
        row = held[pick % len(held)]
        task_id = None if status is None else "t-other" if other == 1 else row.task_id
        named = {"model": row.model} if model else {}
        return freed(
            row.slot_id,
            max(0, row.lease - older),
            task_id,
            status or "",
            pool=row.pool,
            at_ms=desk.desk.now_ms,
            **named,
        )

    return make


def again(pick: int) -> Making:
    """An input of before is delivered again."""

    def make(desk: Routing) -> Event | Unreadable:
        seen = [item.event for batch in desk.desk.batches for item in batch]
        return seen[pick % len(seen)] if seen else tick()

    return make


#: How long ago a task was named; mostly it is a new one.
NUMBERS = st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 8, 20])
POOL = st.sampled_from(POOLS)
PENDS = st.builds(pending, NUMBERS, TASKS, POOL)
SLOTS = st.builds(announced, st.sampled_from(FLEET), st.none(), POOL, st.sampled_from([0, 0, 0, -1_000, 1]))
FREES = st.builds(given_back, st.integers(0, 9), STATUS, st.just(0), st.integers(0, 4), st.booleans())
OTHER = st.one_of(
    st.builds(given_back, st.integers(0, 9), STATUS, st.sampled_from([-1, 1, 2]), st.just(0), st.booleans()),
    st.builds(
        announced, st.sampled_from(FLEET), st.sampled_from(["opus", "haiku", "sonnet", "oopus"]), POOL, st.just(0)
    ),
    st.builds(lambda name, pool: lambda _: freed(name, 3, pool=pool), st.sampled_from(FLEET), POOL),
    st.builds(lambda name, pool: lambda _: retired(name, pool=pool), st.sampled_from(FLEET), POOL),
    st.builds(lambda number, pool: lambda desk: cancelled(desk.named(number), pool=pool), st.integers(-1, 12), POOL),
    st.builds(again, st.integers(0, 500)),
    st.just(lambda _: tick()),
    st.just(lambda _: Unreadable(reason="Not JSON.")),
)
MAKINGS = st.one_of(PENDS, PENDS, SLOTS, FREES, FREES, OTHER)
#: Without these the run was no test; words of decisions, counts and ends.
MUST_BE_SEEN = (
    *(
        "routed",
        "lifted",
        "traded",
        "reserved_for_ev",
        "capable_busy",
        "no_capable_model",
        "boundary",
        "context",
        "floor",
    ),
    *(
        "done",
        "cancelled",
        "expired",
        "dead_lettered",
        "dropped",
        "untold",
        "escalated",
        "restored",
        "chosen by use",
        "thrown away",
    ),
    *("stale_free", "duplicate_free", "lost_slot", "duplicate_task", "conflicting_task", "foreign_outcome"),
    *("late_cancel", "cancelled_while_running", "duplicate_control", "unknown_slot"),
)
PAUSES_MS = st.sampled_from([0, 0, 0, 0, 1, 700, 5_000, 61_000])


class Routing(RuleBasedStateMachine):
    """A router and the naive model, given the same."""

    #: What happened in all examples so far.
    seen: ClassVar[Counter[str]] = Counter()

    @initialize(
        told_max=st.sampled_from([1_000, 2]),
        back_off_s=st.sampled_from([0.0, 0.0, 30.0]),
        thrown_away_ms=st.sampled_from([0, 0, 3_000, 70_000]),
        fleet=st.sets(st.sampled_from(FLEET), min_size=3).map(sorted) | st.just([]),
    )
    def begin(self, told_max: int, back_off_s: float, thrown_away_ms: int, fleet: list[str]) -> None:
        """A pool with some slots, or none yet."""
        sections: dict[str, dict[str, Any]] = {
            "service": {"announcements_max": told_max, "announcements_per_s": 10.0},
            "attempts": {"failures_max": 3, "back_off_s": back_off_s},
        }
        self.told_max = told_max
        self.desk = Desk(book=rulebook(**sections))
        self.naive = Naive(**sections)
        self.leases: Counter[tuple[str, str]] = Counter()
        self.accepted: set[tuple[str, str]] = set()
        self.names = 0
        self.thrown_away_ms = thrown_away_ms
        if fleet:
            self._step([(0, slot(name)) for name in fleet])

    @rule(batch=st.lists(st.tuples(PAUSES_MS, MAKINGS), min_size=1, max_size=8))
    def things_happen(self, batch: list[tuple[int, Making]]) -> None:
        """Up to eight inputs in one step."""
        self._step([(pause_ms, make(self)) for pause_ms, make in batch])

    @rule(batch=st.lists(PENDS, min_size=4, max_size=8))
    def much_work_comes(self, batch: list[Making]) -> None:
        """More tasks than slots."""
        self._step([(0, make(self)) for make in batch])

    @rule(
        evs=st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, 50.0]), min_size=5, max_size=8),
        priority=st.sampled_from([50, 90]),
        on_failure=ON_FAILURE,
    )
    def ordinary_work_comes(self, evs: list[float], priority: int, on_failure: str) -> None:
        """Tasks that any model can do, mostly of low EV."""
        said = {"priority": priority, "on_failure": on_failure}
        self._step([(0, pending(0, said | {"ev": ev}, "main")(self)) for ev in evs])

    @rule(status=STATUS, after_ms=PAUSES_MS)
    def all_work_ends(self, status: str | None, after_ms: int) -> None:
        """Every slot that holds a task is given back."""
        makings = [given_back(pick, status, 0, 0, False) for pick in range(len(self.held()))]
        self._step([(0 if i else after_ms, make(self)) for i, make in enumerate(makings)] or [(0, tick())])

    @rule()
    def slots_restart(self) -> None:
        """Every slot that holds a task has forgotten it."""
        now_ms = self.desk.now_ms + 1
        self._step(
            [(1, slot(row.slot_id, row.model, pool=row.pool, at_ms=now_ms)) for row in self.held()] or [(0, tick())]
        )

    @precondition(lambda self: self.desk.now_ms < START_MS + DAY_MS - 9_000_000)
    @rule(s=st.sampled_from([1, 59, 60, 119, 120, 121, 299, 301, 1_000, 3_700, 7_200]))
    def time_passes(self, s: int) -> None:
        """Minutes or hours later."""
        self._step([(s * 1000, tick())])

    @precondition(lambda self: self.desk.router.due_ms() is not None)
    @rule()
    def what_is_due_comes(self) -> None:
        """A tick at the moment that the router asked for."""
        due_ms = self.desk.router.due_ms()
        assert due_ms is not None
        self._step([(max(0, due_ms - self.desk.now_ms), tick())])

    @rule(follower=st.booleans())
    def router_is_restored(self, follower: bool) -> None:
        """From here on another router goes on, made from a snapshot or fed by the journal only."""
        desk = self.desk
        self.seen["restored"] += 1
        if follower:
            desk.router, desk.follower = desk.follower, desk.router
            return
        desk.router = Router.restore(0, desk.book, picture(desk.router))

    @invariant()
    def nothing_is_overdue(self) -> None:
        """What fell due by now has happened."""
        due_ms = self.desk.router.due_ms() if hasattr(self, "desk") else None
        assert due_ms is None or due_ms > self.desk.now_ms

    # What events are made of.

    def held(self) -> list[SlotRow]:
        """The slots that hold a task."""
        rows = [row for pool in self.desk.router.state.pools.values() for row in pool.slots.values()]
        return sorted((row for row in rows if row.state == "held"), key=lambda row: (row.pool, row.slot_id))

    def name(self, ago: int) -> str:
        """The id of a task: a new one, or one of before."""
        if not ago:
            self.names += 1
        return self.named(ago)

    def named(self, ago: int) -> str:
        """The id of the task named so many tasks ago; -1: the one that comes next."""
        return f"t{max(1, self.names - ago)}"

    # What must hold of every step.

    def _step(self, batch: list[tuple[int, Any]]) -> None:
        desk = self.desk
        told = {
            (pool.name, task_id)
            for pool in desk.router.state.pools.values()
            for task_id, row in pool.tasks.items()
            if row.standing.state == "waiting"
        }
        untold = desk.router.state.untold
        # How busy models were is a tie-break of ties; test_utilisation holds the curves to account.
        self.crowd = sum(len(pool.tasks) for pool in desk.router.state.pools.values()) + len(batch)
        now_ms = Millis(desk.now_ms + sum(pause_ms for pause_ms, _ in batch))
        self.shares = {
            pool.name: {
                model: curve.busy_ms(now_ms, SHORT_MS) / pool.model_slots[model]
                for model, curve in pool.model_busy.items()
            }
            for pool in desk.router.state.pools.values()
        }
        if self.thrown_away_ms:
            # The journal took another's step: what was computed for it never was.
            desk.router.handle(inputs(tick(), now_ms=now_ms + self.thrown_away_ms))
            self.seen["thrown away"] += 1
        step = desk.hand_in_timed(batch)
        self._fits_the_naive_model(step, self.naive.remember(desk.batches[-1], untold))
        self._keeps_its_word(step, told)

    def _fits_the_naive_model(self, step: Step, touched: list[str]) -> None:
        refused = [pool.rejected for pool in self.naive.pools.values()]
        unreadable = [item for item in self.desk.batches[-1] if isinstance(item.event, Unreadable)]
        assert len(step.rejected) == sum(refused) + len(unreadable)
        for pool in self.naive.pools.values():
            decisions = [one for one in step.decisions if one.pool == pool.name]
            self._same_usual(pool)
            self._same_round(pool, {one.task_id: one for one in decisions if one.outcome == "routed"}, step.now_ms)
            self._same_ends(pool, step, decisions)
            pool.write_down_use()
            self._same_rows(pool)
            self._same_words(pool, decisions)
            assert pool.name in touched or not decisions

    def _same_usual(self, pool: NaivePool) -> None:
        known = self.desk.router.state.pool(pool.name).percentiles
        if pool.usual is None:
            assert known is None or known.p50 is None
            return
        assert known is not None
        assert known.p50 is not None
        assert known.p90 is not None
        assert known.at_ms == pool.usual[0]
        assert math.isclose(known.p50, pool.usual[1], abs_tol=1e-9)
        assert math.isclose(known.p90, pool.usual[2], abs_tol=1e-9)
        # The last digit is the router's.
        pool.usual = (known.at_ms, known.p50, known.p90)

    def _same_round(self, pool: NaivePool, routed: dict[str, Decision], now_ms: int) -> None:
        pairs, best = pool.round(now_ms, self.shares.get(pool.name, {}))
        chosen = {one.task_id: one.chosen_slot_id for one in routed.values()}
        assert sorted(chosen) == sorted(one.id for one, _ in pairs), "others were served"
        assert sorted(map(str, chosen.values())) == sorted(one.id for _, one in pairs), "other slots were taken"
        known = sorted((one for one, _ in pairs if one.ev is not None), key=lambda one: -(one.ev or 0))
        assert [routed[one.id].tier for one in known] == best, "better tiers went to lower EVs"
        mine = {one.id: place.id for one, place in pairs}
        self.seen["traded"] += chosen != mine
        self.seen["chosen by use"] += any(place.busy_ms(now_ms) > 0 for _, place in pairs)
        self.seen["escalated"] += any(one.tier_min > 1 for one, _ in pairs)
        if [pool.tier[pool.slots[mine[one.id]].model] for one in known] == best:
            assert chosen == mine, "another slot was taken, and nothing is gained by it"
        for one, _ in pairs:
            decision = routed[one.id]
            place = pool.slots[str(decision.chosen_slot_id)]
            assert pool.verdicts(one)[place.model] is None, "a gate was opened"
            assert (decision.lifted, decision.attempt) == (pool.lifted(one), one.attempt)
            assert decision.utilisation == round(place.busy_ms(now_ms) / SHORT_MS, 6)
        for one, _ in pairs:
            decision = routed[one.id]
            pool.route(one.id, str(decision.chosen_slot_id), now_ms)
            place = pool.slots[str(decision.chosen_slot_id)]
            assert (decision.chosen_model, decision.lease) == (place.model, place.lease)
            assert decision.lease_expires_at_ms == place.expires_ms
        for one in pool.tasks.values():
            if one.state == "waiting":
                said = pool.verdicts(one)
                idle = [
                    place.id
                    for place in pool.slots.values()
                    if place.state == "free" and said.get(place.model, "") is None
                ]
                assert not idle, f"I7: {one.id} waits beside {idle}"

    def _same_ends(self, pool: NaivePool, step: Step, decisions: list[Decision]) -> None:
        assert {one.task_id: one.what for one in step.finished if one.pool == pool.name} == pool.ended
        told = {one.task_id: one.outcome for one in decisions if one.outcome not in ("routed", "waiting")}
        for task_id, how in pool.ended.items():
            # The end of a running task is told by its outcome; all other ends by a decision.
            assert told.pop(task_id, None) in ((how,) if how not in ("done", "cancelled") else (how, None))
        assert not told
        dead = {row.task.task_id for row in step.dead if row.task.pool == pool.name}
        assert dead == {task_id for task_id, how in pool.ended.items() if how == "dead_lettered"}

    def _same_rows(self, pool: NaivePool) -> None:
        state = self.desk.router.state.pool(pool.name)
        assert {
            row.slot_id: (row.model, row.state, row.lease, row.retired, row.task_id) for row in state.slots.values()
        } == {
            one.id: (one.model, one.state, one.lease, one.retired, one.task_id if one.state == "held" else None)
            for one in pool.slots.values()
        }
        assert {
            task_id: (where.state, where.attempt, where.failures, where.since_ms, where.tier_min, where.cancelled)
            for task_id, where in ((task_id, row.standing) for task_id, row in state.tasks.items())
        } == {
            one.id: (one.state, one.attempt, one.failures, one.since_ms, one.tier_min, one.cancelled)
            for one in pool.tasks.values()
        }

    def _same_words(self, pool: NaivePool, decisions: list[Decision]) -> None:
        state = self.desk.router.state
        for task_id, row in state.pool(pool.name).tasks.items():
            if row.standing.state == "waiting" and pool.name not in state.untold:
                assert row.standing.headline == pool.headline(pool.tasks[task_id])
        for one in decisions:
            gates = {model: said["gate"] for model, said in json.loads(bytes(one.alternatives)).items()}
            if one.outcome == "waiting":
                assert one.reason_code == pool.headline(pool.tasks[one.task_id])
                # Among many it is an estimate.
                position = pool.position(pool.tasks[one.task_id], one.decided_at_ms)
                assert one.position == position or self.crowd > 32
            if one.outcome in ("waiting", "routed"):
                said = pool.verdicts(pool.tasks[one.task_id])
                assert {model: gate if gate in GATES else None for model, gate in gates.items()} == said
            assert set(gates.values()) <= {*GATES, "busy", "ok", "chosen"}
            assert [model for model, gate in gates.items() if gate == "chosen"] == [one.chosen_model] * (
                one.outcome == "routed"
            )

    def _keeps_its_word(self, step: Step, told: set[tuple[str, str]]) -> None:
        self.seen.update(step.counts)
        self.seen.update(one.reason_code for one in step.decisions)
        self.seen.update(one.outcome for one in step.decisions)
        self.seen.update(one.what for one in step.finished)
        self.seen["untold"] += bool(step.untold)
        # Lease numbers of a slot count by one; a decision has an id of its own.
        for one in step.decisions:
            if one.outcome == "routed":
                key = (one.pool, str(one.chosen_slot_id))
                self.leases[key] += 1
                assert one.lease == self.leases[key]
        ids = [one.decision_id for past in self.desk.steps for one in past.decisions]
        assert len(ids) == len(set(ids))
        assert len({(one.pool, one.task_id) for one in step.decisions}) == len(step.decisions), (
            "two decisions on one task"
        )
        # At most so many waits are announced again.
        told_again = Counter(
            one.pool for one in step.decisions if one.outcome == "waiting" and (one.pool, one.task_id) in told
        )
        assert all(count <= self.told_max for count in told_again.values())
        # What was accepted is in one place: waiting, held, running or finished.
        for item in self.desk.batches[-1]:
            if isinstance(item.event, TaskPending) and not any(
                (refused.topic, refused.offset) == (item.topic, item.offset) for refused in step.rejected
            ):
                self.accepted.add((item.event.pool, item.event.task_id))
        places = Counter[tuple[str, str]]()
        for pool in self.desk.router.state.pools.values():
            places.update((pool.name, task_id) for task_id in pool.tasks)
            places.update((pool.name, task_id) for task_id in pool.finished)
        assert set(places) == self.accepted
        assert set(places.values()) <= {1}


TestRouting = pytest.mark.timeout(900)(Routing.TestCase)
TestRouting.settings = settings(max_examples=80) if settings().max_examples < 500 else settings()


def test_the_histories_reached_what_matters() -> None:
    """A property proves nothing about what never happened."""
    if settings().max_examples < 500 or not Routing.seen:
        pytest.skip("a short run may miss something; CI=true makes a long one")
    assert not [word for word in MUST_BE_SEEN if not Routing.seen[word]]
