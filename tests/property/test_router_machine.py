"""For any order of events the router decides as the reference model does, and its invariants hold."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Container, Mapping
from itertools import cycle
from typing import Any, ClassVar

import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from schemas.decision import Decision, Step
from schemas.events import BudgetCredited, TaskPending
from schemas.vocabulary import Complexity, Millis
from streams.core.policy.rulebook import load_rulebook
from streams.core.router import Router
from streams.core.state.utilisation import SHORT_MS
from tests.reference import GATES, Choice, ReferencePartition, ReferencePool, Slot
from tests.reference.prices import next_change_ms
from tests.support.builders import START_MS, inputs, slot, tick
from tests.support.event_strategies import (
    ACTIVATIONS,
    FLEETS,
    MAKINGS,
    MARKS,
    MONEY,
    OFF,
    ON_FAILURE,
    PAUSES_MS,
    PENDS,
    QUOTAS,
    STATUS,
    VARIANTS,
    Making,
    Quirks,
    Stage,
    control,
    evenly,
    given_back,
    hashes,
    pending,
    texts,
    works_on,
)
from tests.support.router_rig import RouterRig, picture

DAY_MS = 24 * 3_600_000
#: Histories in CI, where they are always the same ones, and elsewhere.
LONG, SHORT = 250, 60
#: Seeds of the short runs that follow a long one which missed a word; the first of them reaches the rarest.
CHANCES = range(15, 20)
#: Without these the run was no test; words of decisions, counts, ends, and verdicts as `gate:...`.
MUST_BE_SEEN = (
    *(
        "routed",
        "cheapest_capable",
        "lifted",
        "objective",
        "preference",
        "traded",
        "traded with money",
        "patient",
    ),
    *("reserved_for_ev", "capable_busy", "lost", "gate:lost", "no_capable_model", "boundary", "context", "floor"),
    *("quota", "credit", "watching", "spending", "barred", "emergency", "near", "activated", "not activated"),
    *("done", "cancelled", "expired", "dead_lettered", "dropped", "untold", "escalated", "restored"),
    *(
        "chosen by use",
        "thrown away",
        "overdrawn",
        "stale_free",
        "late_free",
        "duplicate_free",
        "lost_slot",
        "silent_slot",
    ),
    *(
        "duplicate_task",
        "redriven_task",
        "renewed_lease",
        "taken_up",
        "stale_renewal",
        "excess_renewal",
        "early_renewal",
    ),
    *("conflicting_task", "foreign_outcome", "late_cancel", "cancelled_while_running", "duplicate_control"),
    "retried_task",
    *(f"because {word}" for word in ("affinity_slot", "affinity_account", "only_free", "least_used", "model_share")),
    *(f"because {word}" for word in ("cost", "score", "id", "swap")),
    *(
        "unknown_slot",
        "out of reach",
        "not taken",
        "gave way",
        "gave way to a cap",
        "routed beside a cap",
        "prices changed",
        "contradictory_outcome",
        *(f"gate:{gate}" for gate in GATES),
    ),
)
#: What a sentence says, by what decided.
SAYS = {
    "affinity_slot": "[0-9] has its context",
    "affinity_account": r", which has its context( of tier \d)?\.",
    "only_free": "only available slot",
    "least_used": "is less used than",
    "model_share": "is of a less used model than",
    "cost": "is cheaper than",
    "score": "has a better score than",
    "id": "is the first by id of equal slots",
    "swap": "Swapped within the round",
}


class Routing(RuleBasedStateMachine):
    """A router and the reference model, given the same events."""

    #: What happened in all examples so far.
    seen: ClassVar[Counter[str]] = Counter()

    @initialize(
        told_max=st.sampled_from([1_000, 2]),
        back_off_s=st.sampled_from([0.0, 0.0, 30.0]),
        thrown_away_ms=st.sampled_from([0, 0, 3_000, 70_000]),
        discarded=st.lists(MAKINGS, max_size=4) | st.lists(ACTIVATIONS, max_size=1),
        variant=st.sampled_from(
            ["shipped", "shipped", "odd", "strict", "preference", "plugged", "priced", "capped", "capped"]
        ),
        off=OFF,
        fleet=FLEETS,
        accounts=st.sampled_from([(None,), ("a1", "a2"), ("a2", "a1", None)]),
    )
    def begin(
        self,
        told_max: int,
        back_off_s: float,
        thrown_away_ms: int,
        discarded: list[Making],
        variant: str,
        off: frozenset[str],
        fleet: list[str],
        accounts: tuple[str | None, ...],
    ) -> None:
        """A pool with some slots, of the accounts in turn, or none yet."""
        self.discarded = discarded
        self._set_up(told_max, back_off_s, thrown_away_ms, variant, off)
        if fleet:
            whose = (None,) if "accounts" in off else accounts
            self._step([(0, slot(name, account=of)) for name, of in zip(fleet, cycle(whose), strict=False)])

    @rule(batch=st.lists(st.tuples(PAUSES_MS, MAKINGS), min_size=1, max_size=8))
    def things_happen(self, batch: list[tuple[int, Making]]) -> None:
        """Up to eight inputs in one step."""
        self._happen(batch)

    @rule(batch=st.lists(PENDS, min_size=4, max_size=8))
    def much_work_comes(self, batch: list[Making]) -> None:
        """More tasks than slots."""
        self._happen([(0, making) for making in batch])

    @rule(batch=st.lists(evenly(MARKS, QUOTAS, MONEY), min_size=1, max_size=4))
    def operators_act(self, batch: list[Making]) -> None:
        """Several conditions change at once."""
        self._happen([(0, making) for making in batch])

    @rule(activation=ACTIVATIONS, batch=st.lists(MAKINGS, max_size=3))
    def rules_change(self, activation: Making, batch: list[Making]) -> None:
        """Other rules decide from here on."""
        self._happen([(0, making) for making in (activation, *batch)])

    @rule(
        work=st.lists(
            st.tuples(
                st.sampled_from([1.0, 2.0, 3.0, 4.0, 50.0]), st.sampled_from([None, None, "acme", "acme", "bob"])
            ),
            min_size=5,
            max_size=8,
        ),
        more=st.sampled_from(
            [[], [], [("", "priority", 90)], [("strategies", "both", {"strategy": "preference", "task_type": "code"})]]
        ),
        on_failure=ON_FAILURE,
    )
    def ordinary_work_comes(self, work: list[tuple[float, str | None]], more: Quirks, on_failure: str) -> None:
        """Tasks that any model can do, mostly of low EV."""
        said: Quirks = [("", "priority", 50), ("", "on_failure", on_failure), *more]
        self._happen(
            [(0, pending(0, [*said, ("", "ev", ev), ("money", "tenant_id", tenant)], "main")) for ev, tenant in work]
        )

    @rule(
        work=st.lists(
            st.tuples(
                st.sampled_from([1.0, 2.0, 9.0]),
                st.sampled_from(["acme", "acme", "bob"]),
                st.integers(0, 60).map(lambda step: step * 150),
                st.sampled_from([0, 0, 1_000, 20_000]),
            ),
            min_size=3,
            max_size=8,
        ),
        budget=st.sampled_from([None, None, 0.01, 0.1, 0.3, 1.0, 3.0, -1.0]),
        of=st.sampled_from([None, None, "standard", "complex", "expert"]),
    )
    def paid_work_comes(
        self, work: list[tuple[float, str, int, int]], budget: float | None, of: Complexity | None
    ) -> None:
        """Tasks of all sizes that budgets pay for, of a class or of none."""
        money = (
            []
            if budget is None
            else [control(BudgetCredited, "money", {"tenant_id": "acme", "amount_usd": budget}, "main")]
        )
        tasks = [
            pending(
                0,
                [
                    ("", "ev", ev),
                    ("money", "tenant_id", tenant),
                    ("money", "output_tokens", output),
                    ("money", "input_tokens", input_),
                    *([("money", "complexity", of)] if of is not None else []),
                ],
                "main",
            )
            for ev, tenant, output, input_ in work
        ]
        self._happen([(0, making) for making in (*money, *tasks)])

    @rule(status=STATUS, after_ms=PAUSES_MS)
    def all_work_ends(self, status: str | None, after_ms: int) -> None:
        """Every slot that holds a task is given back."""
        makings = [given_back(pick, status, 0, 0, False, {}) for pick in range(len(self.stage.leased()))]
        self._happen([(0 if i else after_ms, making) for i, making in enumerate(makings)] or [(0, lambda _: tick())])

    @rule(
        cost_usd=st.sampled_from([0.06, 0.28, 0.85]),
        tenant=st.sampled_from([None, "acme", "bob"]),
        of=st.sampled_from([None, "complex", "expert", "expert"]),
        floor=st.sampled_from([None, None, None, "opus"]),
    )
    def dear_work_ends(self, cost_usd: float, tenant: str | None, of: Complexity | None, floor: str | None) -> None:
        """What one slot did cost about what an hour may; more work of a tenant comes."""
        quirks = [("money", "tenant_id", tenant), ("money", "complexity", of), ("limits", "floor_model", floor)]
        task = pending(0, [("", "ev", 9.0), *(quirk for quirk in quirks if quirk[2] is not None)], "main")
        self._happen([(1, given_back(0, "success", 0, 0, False, {"cost_usd": cost_usd})), (0, task), (0, task)])

    @rule(times=st.integers(1, 3), after_ms=PAUSES_MS)
    def all_work_goes_on(self, times: int, after_ms: int) -> None:
        """Every slot that holds a task, or lost one, renews its lease, also more often than it may."""
        makings = [works_on(pick, 0, n, None) for pick in range(len(self.stage.renewable())) for n in range(times)]
        self._step([(after_ms or 1, making(self.stage)) for making in makings] or [(0, tick())])

    @rule()
    def slots_restart(self) -> None:
        """Every slot forgot its task, or was lost, and announces itself."""
        now_ms = self.rig.now_ms + 1
        rows = [row for pool in self.rig.router.state.pools.values() for row in pool.slots.values()]
        rows = sorted((row for row in rows if row.state != "free"), key=lambda row: (row.pool, row.slot_id))
        self._step([(1, slot(row.slot_id, row.model, pool=row.pool, at_ms=now_ms)) for row in rows] or [(0, tick())])

    @precondition(lambda self: self.rig.now_ms < START_MS + DAY_MS - 9_000_000)
    @rule(s=st.sampled_from([1, 59, 60, 119, 120, 121, 299, 301, 500, 1_000, 3_700, 7_200]))
    def time_passes(self, s: int) -> None:
        """Minutes or hours later."""
        self._step([(s * 1000, tick())])

    @precondition(lambda self: self.rig.router.due_ms() is not None)
    @rule()
    def what_is_due_comes(self) -> None:
        """A tick at the moment that the router asked for."""
        due_ms = self.rig.router.due_ms()
        assert due_ms is not None
        self._step([(max(0, due_ms - self.rig.now_ms), tick())])

    @rule(follower=st.booleans())
    def router_is_restored(self, follower: bool) -> None:
        """From here on another router goes on, made from a snapshot or fed by the journal only."""
        self._restore(follower)

    @invariant()
    def nothing_is_overdue(self) -> None:
        """What fell due by now has happened."""
        due_ms = self.rig.router.due_ms() if hasattr(self, "rig") else None
        assert due_ms is None or due_ms > self.rig.now_ms
        if hasattr(self, "rig") and (expected_ms := self.reference.next_due_ms()) is not None:
            assert due_ms is not None
            # Who waits for a premium slot and was not announced yet is looked at with the next announcements.
            later_ms = self.rig.now_ms + 1_000 if self.rig.router.state.unannounced else 0
            assert due_ms <= max(expected_ms, later_ms), "the router would sleep too long"

    # What must hold of every step.

    def _set_up(self, told_max: int, back_off_s: float, thrown_away_ms: int, variant: str, off: frozenset[str]) -> None:
        self.told_max = told_max
        known = {name: texts(name, told_max, back_off_s) for name in VARIANTS}
        hash_of: dict[str, str] = {}
        for name in VARIANTS:
            if name != "broken":
                hash_of |= dict(zip(known[name], hashes(*known[name]), strict=True))
        self.rig = RouterRig(book=load_rulebook(*known[variant]))
        self.stage = Stage(self.rig, off, known.values())
        self.reference = ReferencePartition(*known[variant], hash_of)
        self.leases: Counter[tuple[str, str]] = Counter()
        self.accepted: set[tuple[str, str]] = set()
        self.thrown_away_ms = thrown_away_ms

    def _restore(self, follower: bool) -> None:
        rig = self.rig
        self.seen["restored"] += 1
        if follower:
            rig.router, rig.follower = rig.follower, rig.router
        else:
            rig.router = Router.restore(0, rig.book, picture(rig.router))

    def _happen(self, batch: list[tuple[int, Making]]) -> None:
        self._step([(pause_ms, making(self.stage)) for pause_ms, making in batch])

    def _step(self, batch: list[tuple[int, Any]]) -> None:
        rig = self.rig
        pools = rig.router.state.pools
        announced = {
            (pool.name, task_id): (row.status.tier_min, row.status.decision_id)
            for pool in pools.values()
            for task_id, row in pool.tasks.items()
            if row.status.state == "waiting"
        }
        unannounced = rig.router.state.unannounced
        # How busy models were is a tie-break of ties; test_utilisation holds the curves to account.
        self.crowd = sum(len(pool.tasks) for pool in pools.values()) + len(batch)
        now_ms = Millis(rig.now_ms + sum(pause_ms for pause_ms, _ in batch))
        self.shares = {
            pool.name: {
                model: curve.busy_ms(now_ms, SHORT_MS) / pool.model_slots[model]
                for model, curve in pool.model_busy.items()
            }
            for pool in pools.values()
        }
        if self.thrown_away_ms:
            # The journal took another's step: what was computed for it never was.
            others = [making(self.stage) for making in self.discarded]
            rig.discarded = inputs(*others, tick(), now_ms=now_ms + self.thrown_away_ms)
            rig.router.handle(rig.discarded)
            self.seen["thrown away"] += 1
        rules, change_ms = self.reference.rules, next_change_ms(self.reference.rules.models, rig.now_ms)
        self.seen["prices changed"] += bool(announced) and change_ms is not None and change_ms <= now_ms
        step = rig.hand_in_timed(batch)
        self._fits_the_naive_model(step, self.reference.remember(rig.batches[-1], unannounced))
        self._keeps_its_word(step, announced)
        self.seen["activated"] += self.reference.rules is not rules

    def _fits_the_naive_model(self, step: Step, touched: list[str]) -> None:
        assert len(step.rejected) == self.reference.rejected, [row.reason for row in step.rejected]
        for pool in self.reference.pools.values():
            decisions = [one for one in step.decisions if one.pool == pool.name]
            self._same_usual(pool)
            self._same_service(pool, {one.task_id: one for one in decisions if one.outcome == "routed"}, step.now_ms)
            self._same_ends(pool, step, decisions)
            pool.write_down()
            self._same_rows(pool)
            self._same_words(pool, decisions)
            assert pool.name in touched or not decisions

    def _same_usual(self, pool: ReferencePool) -> None:
        known = self.rig.router.state.pool(pool.name).percentiles
        if pool.percentiles is None:
            assert known is None or known.p50 is None
            return
        assert known is not None
        assert known.p50 is not None
        assert known.p90 is not None
        assert known.at_ms == pool.percentiles[0]
        assert math.isclose(known.p50, pool.percentiles[1], abs_tol=1e-9)
        assert math.isclose(known.p90, pool.percentiles[2], abs_tol=1e-9)
        # The last digit is the router's.
        pool.percentiles = (known.at_ms, known.p50, known.p90)

    def _same_service(self, pool: ReferencePool, routed: dict[str, Decision], now_ms: int) -> None:
        choices = pool.round(now_ms, self.shares.get(pool.name, {}))
        slots = {id_: pool.slots[str(decision.chosen_slot_id)] for id_, decision in routed.items()}
        assert {one.task.id for one in choices} <= set(routed), "others were served"
        assert len({place.id for place in slots.values()}) == len(slots)
        problem = pool.swap_problem(choices, slots)
        assert problem is None, problem
        self._count(pool, choices, slots, now_ms)
        for one in choices:
            self._same_choice(pool, one, routed[one.task.id], slots[one.task.id], now_ms)
        later = [pool.tasks[id_] for id_ in routed.keys() - {one.task.id for one in choices}]
        for task in later:
            # A swap left its tenant more than there was when the task was looked at.
            assert pool.ledger(task) is not None
            assert any(pool.ledger(one.task) is pool.ledger(task) for one in choices)
            gate = pool.said(task)[slots[task.id].cell]
            gave_way = gate == "floor" and pool.rules.lower_bar(task.event) < pool.rules.bar(task.event)
            assert gate in (None, "credit") or gave_way or not pool.gates.is_regular(task, slots[task.id].model), gate
        self.seen["served after a trade"] += bool(later)
        for id_, decision in routed.items():
            place = slots[id_]
            assert place.state == "free"
            assert decision.estimated_cost_uusd == pool.rules.estimate(
                pool.tasks[id_].event, pool.rules.model[place.model], now_ms
            )
            pool.route(pool.tasks[id_], place, now_ms, decision.decision_id)
            assert (decision.chosen_model, decision.lease) == (place.model, place.lease)
            assert decision.lease_expires_at_ms == place.expires_ms

    def _same_choice(self, pool: ReferencePool, one: Choice, decision: Decision, place: Slot, now_ms: int) -> None:
        task, model = one.task, pool.rules.model[place.model]
        assert (decision.lifted, decision.attempt) == (pool.lifted(task), task.attempt)
        assert decision.utilisation == round(place.busy_ms(now_ms) / SHORT_MS, 6)
        assert decision.reason_code == one.code
        assert decision.strategy == pool.rules.word(task.event)
        assert decision.max_tokens == pool.rules.longest_answer(task.event, model)
        said = json.loads(bytes(decision.alternatives))
        free = {other.cell for other in pool.slots.values() if other.state == "free"}
        open_to = {cell[0] for cell in free if one.said[cell] is None}
        words = {name: _word(pool, one.said, name, gate, open_to) for name, gate in one.verdicts.items()}
        assert {name: row["gate"] for name, row in said.items()} == words | {place.model: "chosen"}
        self._same_reason(one, decision, said)
        assert (" Credit: " in decision.reason) == one.gave_way
        assert decision.fallback or not one.gave_way
        self.seen["gave way"] += one.gave_way
        barred = any(row.get("breaker") for row in said.values())
        self.seen["gave way to a cap"] += one.gave_way and barred
        self.seen["routed beside a cap"] += barred
        self._same_scores(said, one.scores)

    def _same_reason(self, one: Choice, decision: Decision, said: dict[str, Any]) -> None:
        """The sentence names what the chosen slot and the best other one really differ in, or the swap."""
        swapped = decision.chosen_slot_id != one.slot.id
        because = "swap" if swapped else one.because
        assert [word for word, phrase in SAYS.items() if re.search(phrase, decision.reason)] == [because], (
            decision.reason
        )
        self.seen[f"because {because}"] += 1
        behind = {model: row["behind"] for model, row in said.items() if "behind" in row}
        free = [model for model, row in said.items() if row["gate"] == "ok"]
        if swapped:
            assert behind == dict.fromkeys(free, "swap")
        else:
            assert behind == {model: word for model, word in one.behind.items() if model in free}

    def _same_scores(self, said: dict[str, Any], scores: dict[str, float]) -> None:
        for model, row in said.items():
            if "score" in row:
                assert math.isclose(row["score"], scores[model], abs_tol=2e-6), (model, row, scores)

    def _count(self, pool: ReferencePool, choices: list[Choice], slots: dict[str, Slot], now_ms: int) -> None:
        seen = self.seen
        swapped = any(slots[one.task.id] is not one.slot for one in choices)
        seen["traded"] += swapped
        seen["traded with money"] += swapped and any(one.available is not None for one in choices)
        for one in choices:
            seen["chosen by use"] += one.slot.busy_ms(now_ms) > 0
            seen["escalated"] += one.task.tier_min > 1
            seen["emergency"] += one.slot.model == "local" and not one.task.event.local_only
            seen["near"] += one.task.event.affinity is not None
            seen["patient"] += pool.points(one.task, now_ms) >= pool.rules.section("service")["patience_points"]

    def _same_ends(self, pool: ReferencePool, step: Step, decisions: list[Decision]) -> None:
        assert {one.task_id: one.what for one in step.finished if one.pool == pool.name} == pool.ended
        ended = [(one.task_id, one.outcome) for one in decisions if one.outcome not in ("routed", "waiting")]
        for end in pool.ends:
            # The end of a running task is reported by its outcome; all other ends by a decision.
            if ended[:1] == [end]:
                ended.pop(0)
            else:
                assert end[1] in ("done", "cancelled")
        assert not ended
        dead = [row.task.task_id for row in step.dead if row.task.pool == pool.name]
        assert dead == [task_id for task_id, how in pool.ends if how == "dead_lettered"]
        assert self.rig.router.state.pool(pool.name).duplicates == pool.duplicates

    def _same_rows(self, pool: ReferencePool) -> None:
        state = self.rig.router.state.pool(pool.name)
        assert {
            row.slot_id: (
                *(row.model, row.account, row.state, row.lease, row.retired, row.task_id),
                row.unreported and (row.unreported.decision_id, row.unreported.reserved_uusd),
                row.lease_expires_at_ms,
                row.renewals_left if row.state != "free" else 0,
                row.ttl_ms,
            )
            for row in state.slots.values()
        } == {
            one.id: (
                one.model,
                one.account,
                one.state,
                one.lease,
                one.retired,
                one.task_id if one.state == "leased" else None,
                (work := pool.unreported.get(one.id)) and (work.decision_id, work.reserved_uusd),
                one.expires_ms if one.state == "leased" else None,
                one.renewals_left if one.state != "free" else 0,
                one.ttl_ms,
            )
            for one in pool.slots.values()
        }
        assert {
            task_id: (
                *(row.ev, where.state, where.attempt, where.failures, where.since_ms),
                *(where.tier_min, where.cancelled, where.reserved_uusd),
            )
            for task_id, row, where in ((task_id, row, row.status) for task_id, row in state.tasks.items())
        } == {
            one.id: (
                *(one.ev, one.state, one.attempt, one.failures, one.since_ms),
                *(one.tier_min, one.cancelled, one.reserved_uusd),
            )
            for one in pool.tasks.values()
        }
        assert {
            tenant: (row.credited_uusd, row.available_uusd, row.reserved_uusd, row.consumed_uusd)
            for tenant, row in state.ledgers.items()
        } == {tenant: ledger.row() for tenant, ledger in pool.ledgers.items()}
        assert dict(state.spending.sums(self.rig.router.now_ms)) == pool.spend(self.rig.router.now_ms).sums()
        self.seen["overdrawn"] += any(ledger.available < 0 for ledger in pool.ledgers.values())

    def _same_words(self, pool: ReferencePool, decisions: list[Decision]) -> None:
        state = self.rig.router.state
        for task_id, row in state.pool(pool.name).tasks.items():
            if row.status.state != "waiting":
                continue
            task = pool.tasks[task_id]
            idle = [
                place.id for place in pool.slots.values() if place.state == "free" and not pool.said(task)[place.cell]
            ]
            assert not idle, f"I7: {task_id} waits beside {idle}"
            if pool.name not in state.unannounced:
                assert row.status.headline == pool.headline(task)
        flags = pool.gates.flags()
        for one in decisions:
            said = json.loads(bytes(one.alternatives))
            gates = {model: row["gate"] for model, row in said.items()}
            self.seen.update(f"gate:{gate}" for gate in gates.values())
            away = {model for model, row in said.items() if row.get("out_of_reach")}
            assert away == set(said) - {model for model, _ in pool.gates.in_reach}
            self.seen["out of reach"] += bool(away)
            assert ("watching" in one.flags) == ("watching" in flags)
            self.seen["watching"] += "watching" in flags
            spend, view = pool.gates.spend, pool.gates.view
            assert spend is not None
            whose = spend.scopes(one.tenant_id, one.lane)
            near = any(spend.reached(scope, pool.rules, view, one.decided_at_ms) for scope in whose)
            assert ("spending" in one.flags) == near
            self.seen["spending"] += near
            self.seen["barred"] += any(row.get("breaker") for row in said.values())
            if one.outcome == "waiting":
                task = pool.tasks[one.task_id]
                assert one.reason_code == pool.headline(task)
                # Among many it is an estimate.
                assert one.position == pool.position(task, one.decided_at_ms) or self.crowd > 32
                verdicts = pool.verdicts(task)
                assert gates == {name: _word(pool, pool.said(task), name, verdicts[name], ()) for name in verdicts}
                self._same_scores(said, pool.scores(task))
            if one.outcome in ("waiting", "routed"):
                event = pool.tasks[one.task_id].event
                assert one.complexity == pool.rules.class_of(event)
                assert one.objective == pool.rules.objective(event)
            assert set(gates.values()) <= {*GATES, "lost", "busy", "ok", "chosen"}

    def _keeps_its_word(self, step: Step, announced: Mapping[tuple[str, str], object]) -> None:
        self.seen.update(step.counts)
        self.seen["not taken"] += any(one.control_id.startswith("outcome-") for one in step.controls)
        self.seen.update(one.reason_code for one in step.decisions)
        self.seen.update(one.outcome for one in step.decisions)
        self.seen.update(one.what for one in step.finished)
        self.seen["untold"] += bool(step.unannounced)
        self.seen["not activated"] += any("activat" in row.reason for row in step.rejected)
        # Lease numbers of a slot count by one; a decision has an id of its own.
        for one in step.decisions:
            if one.outcome == "routed":
                key = (one.pool, str(one.chosen_slot_id))
                self.leases[key] += 1
                assert one.lease == self.leases[key]
        ids = [one.decision_id for past in self.rig.steps for one in past.decisions]
        assert len(ids) == len(set(ids))
        # A task may end in a step, and be sent again: its new life has a decision of its own.
        live = [(one.pool, one.task_id) for one in step.decisions if one.outcome in ("routed", "waiting")]
        assert len(set(live)) == len(live), "two decisions on one task"
        # At most so many waits are announced again; beside those whose work failed late, or was lost in this step.
        from_work = {(one.pool, one.task_id) for one in step.stopped}
        now = {(one.pool, one.task_id): (one.status.tier_min, one.status.decision_id) for one in step.tasks_changed}
        told_again = Counter(
            one.pool
            for one in step.decisions
            if one.outcome == "waiting"
            and (key := (one.pool, one.task_id)) not in from_work
            and now.get(key, 0) == announced.get(key)
        )
        assert all(count <= self.told_max for count in told_again.values())
        # What was accepted is in one place: waiting, delayed, running or finished.
        for item in self.rig.batches[-1]:
            if isinstance(item.event, TaskPending) and not any(
                (refused.topic, refused.offset) == (item.topic, item.offset) for refused in step.rejected
            ):
                self.accepted.add((item.event.pool, item.event.task_id))
        # The end of a task that is to be run again is forgotten, until it is sent.
        self.accepted -= {key for key in step.retried if self.rig.router.task(*key) is None}
        # What ended is forgotten in time, and not before.
        before_ms = step.now_ms - self.rig.router.state.finished_memory_ms
        for name, known in self.reference.pools.items():
            here = self.rig.router.state.pools[name]
            for task_id in known.finished.keys() - here.finished.keys() - here.tasks.keys():
                if known.finished[task_id].at_ms < before_ms:
                    del known.finished[task_id]
                    self.accepted.remove((name, task_id))
        places = Counter[tuple[str, str]]()
        for pool in self.rig.router.state.pools.values():
            places.update((pool.name, task_id) for task_id in pool.tasks)
            places.update((pool.name, task_id) for task_id in pool.finished)
        assert set(places) == self.accepted
        assert set(places.values()) <= {1}


def _word(
    pool: ReferencePool, said: Mapping[Any, str | None], name: str, gate: str | None, free: Container[str]
) -> str:
    """The verdict on a model that may have passed every gate."""
    if gate is not None:
        return gate
    if name in free:
        return "ok"
    admitted = [cell for cell, refused in said.items() if cell[0] == name and refused is None]
    return "busy" if any(cell in pool.gates.in_service for cell in admitted) else "lost"


TestRouting = pytest.mark.timeout(900)(Routing.TestCase)
TestRouting.settings = settings(max_examples=LONG if settings().max_examples >= 500 else SHORT)


@pytest.mark.timeout(900)
def test_the_histories_reached_what_matters() -> None:
    """Every situation that the property is about occurred at least once; rare ones are given more chances."""
    if settings().max_examples < 500 or not Routing.seen:
        pytest.skip("a short run may miss something; CI=true makes a long one")
    for chance in CHANCES:
        if all(Routing.seen[word] for word in MUST_BE_SEEN):
            break
        run_state_machine_as_test(
            seed(chance)(Routing), settings=settings(max_examples=SHORT, derandomize=False, database=None)
        )
    assert not [word for word in MUST_BE_SEEN if not Routing.seen[word]]
