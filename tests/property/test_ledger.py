"""Money is neither made nor lost: whatever happens, each budget's books balance and say why."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decision import Step
from schemas.events import BudgetCredited
from streams.core.policy.rulebook import load_rulebook
from streams.core.state.partition import Partition
from tests.support.builders import slot, tick
from tests.support.event_strategies import (
    LATE,
    MARKS,
    MONEY,
    OTHER,
    PAUSES_MS,
    PENDS,
    RENEWALS,
    RESTARTS,
    SLOTS,
    TENANTS,
    Making,
    Stage,
    control,
    evenly,
    given_back,
    pending,
    texts,
)
from tests.support.router_rig import RouterRig

PAID = st.builds(
    lambda tenant, ev, more: pending(0, [("money", "tenant_id", tenant), ("", "ev", ev), *more], "main"),
    TENANTS,
    st.sampled_from([1.0, 2.0, 3.0, 9.0]),
    st.sampled_from(
        [
            [],
            [("", "on_failure", "escalate")],
            [("", "requires", {"coding": 6})],
            [("", "input_tokens", 3_000), ("", "output_tokens", 200)],
            [("", "quest_priority", 99)],
        ]
    ),
)
DONE = st.builds(
    given_back,
    st.integers(0, 9),
    st.sampled_from(["success", "failure", None]),
    st.just(0),
    st.sampled_from([0, 0, 0, 1]),
    st.booleans(),
    st.sampled_from([{}, {"cost_usd": 0.4}, {"cost_usd": 0.0}, {"input_tokens": 5}, {"output_tokens": 90_000}]),
)
MUCH = st.tuples(
    PAUSES_MS, evenly(PAID, PAID, PAID, DONE, DONE, DONE, LATE, RENEWALS, MONEY, PENDS, SLOTS, MARKS, OTHER)
)
LATER: st.SearchStrategy[tuple[int, Making]] = st.tuples(
    st.sampled_from([61_000, 1_800_000]), st.just(lambda _: tick()) | RESTARTS
)
BATCHES = st.lists(
    st.lists(MUCH, min_size=2, max_size=6) | st.lists(MUCH, min_size=2, max_size=6) | st.tuples(LATER).map(list),
    min_size=8,
    max_size=20,
)
#: Features that have nothing to do with money.
OFF = frozenset({"activation", "advice"})


class Books:
    """What the movements of money alone say of every budget."""

    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        #: (pool, tenant) -> credited, available, reserved, consumed.
        self.rows: dict[tuple[str, str], list[int]] = {}
        #: Decision -> what it reserved and has not given back.
        self.open: dict[str, int] = {}
        #: Decisions whose reservation was given back: their work may still be paid, once.
        self.released: set[str] = set()

    def read(self, step: Step, state: Partition) -> None:
        """Go on with a step, and compare with the rows that it leaves behind."""
        changed = set()
        for move in step.money:
            self.seen[move.kind] += 1
            key = (move.pool, move.tenant_id)
            changed.add(key)
            row = self.rows.setdefault(key, [0, 0, 0, 0])
            if move.kind == "credit":
                assert move.control_id is not None
                row[0] += move.amount_uusd
                row[1] += move.amount_uusd
                continue
            assert move.decision_id is not None
            if move.kind == "reserve":
                assert move.decision_id not in self.open, "reserved twice"
                self.open[move.decision_id] = move.amount_uusd
                row[1] -= move.amount_uusd
                row[2] += move.amount_uusd
                continue
            if move.kind == "settle" and move.decision_id in self.released:
                self.released.remove(move.decision_id)
                row[1] -= move.amount_uusd
                row[3] += move.amount_uusd
                self.seen["late"] += 1
                continue
            reserved_uusd = self.open.pop(move.decision_id)
            row[2] -= reserved_uusd
            row[1] += reserved_uusd
            if move.kind == "release":
                assert move.amount_uusd == reserved_uusd
                self.released.add(move.decision_id)
            else:
                row[1] -= move.amount_uusd
                row[3] += move.amount_uusd
                self.seen["dearer"] += move.amount_uusd > reserved_uusd
        assert {(row.pool, row.tenant_id) for row in step.ledgers} == changed, "a row that nothing explains"
        for ledger in step.ledgers:
            assert self.rows[ledger.pool, ledger.tenant_id] == [
                ledger.credited_uusd,
                ledger.available_uusd,
                ledger.reserved_uusd,
                ledger.consumed_uusd,
            ]
        for credited, available, reserved, consumed in self.rows.values():
            assert credited == available + reserved + consumed, "not conserved"
            assert reserved >= 0
            assert consumed >= 0
            self.seen["overdrawn"] += available < 0
        self._are_reserved_for_running_tasks(state)
        self._were_announced(step)

    def _are_reserved_for_running_tasks(self, state: Partition) -> None:
        """What is reserved is what stands in the rows of running tasks, to the micro-dollar."""
        reserved_uusd = Counter[tuple[str, str]]()
        for pool in state.pools.values():
            for row in pool.tasks.values():
                reserved = row.status.reserved_uusd
                if reserved is None:
                    continue
                assert row.status.state == "running"
                assert row.status.decision_id is not None
                assert self.open[row.status.decision_id] == reserved
                reserved_uusd[pool.name, row.task.tenant_id or ""] += reserved
        assert {key: row[2] for key, row in self.rows.items() if row[2]} == {
            key: sum_ for key, sum_ in reserved_uusd.items() if sum_
        }

    def _were_announced(self, step: Step) -> None:
        """Every start that a budget pays reserves what its decision estimates, and no other does."""
        reserved = {move.decision_id: move.amount_uusd for move in step.money if move.kind == "reserve"}
        assert reserved == {
            one.decision_id: one.estimated_cost_uusd
            for one in step.decisions
            if one.outcome == "routed" and (one.pool, one.tenant_id or "") in self.rows
        }


@pytest.mark.timeout(600)
@given(batches=BATCHES, rich=st.sampled_from([0.05, 0.3, 2.0]), variant=st.sampled_from(["shipped", "odd", "priced"]))
@settings(max_examples=min(settings().max_examples, 150))
def test_every_movement_of_money_is_written_down_and_none_is_lost(
    batches: list[list[tuple[int, Making]]], rich: float, variant: str
) -> None:
    """The rows of budgets follow from the movements, and hold back exactly what runs."""
    rig = RouterRig(book=load_rulebook(*texts(variant, 1_000, 0.0)), strict=False)
    stage = Stage(rig, OFF)
    books = Books()
    fleet = ["opus-1", "sonnet-1", "haiku-1", "glm-1", "local-1"]
    books.read(rig.hand_in(*(slot(name) for name in fleet)), rig.router.state)
    first = control(BudgetCredited, "money", {"tenant_id": "acme", "amount_usd": rich}, "main")
    for batch in [[(0, first)], *batches]:
        step = rig.hand_in_timed([(pause_ms, making(stage)) for pause_ms, making in batch])
        books.read(step, rig.router.state)


def test_the_books_saw_every_kind_of_movement() -> None:
    """Every situation that the property is about occurred at least once."""
    if settings().max_examples < 500 or not Books.seen:
        pytest.skip("a short run may miss something; CI=true makes a long one")
    kinds = ("credit", "reserve", "settle", "release", "dearer", "overdrawn", "late")
    assert not [word for word in kinds if not Books.seen[word]]
