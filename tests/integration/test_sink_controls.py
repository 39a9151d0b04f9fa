"""Operators' events and money reach Postgres once, and people read them in views that add up."""

from __future__ import annotations

import asyncio
import json
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from msgspec import Raw
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from schemas.decision import ControlTaken, Duplicate, MoneyMovement, TaskRow, TaskStatus
from schemas.vocabulary import MicroUsd, Millis, from_millis
from streams.database.connection import connect_async
from streams.database.migrations import maintain, migrate
from streams.sinks.cursor import Cursor
from streams.sinks.ports import BEFORE_FIRST, ConflictError, JournaledStep, JournalRecord
from streams.sinks.postgres import PostgresStore
from streams.views.explain import explain, explain_why_not
from streams.views.proposals import was_replayed
from tests.support.builders import START_MS, decision, journal, rulebook, step, task, work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.decision import Decision, Step

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


def control(kind: str, control_id: str, at_ms: int = START_MS, **fields: Any) -> ControlTaken:
    """Give an operator's event as a step took it."""
    event = {"kind": kind, "control_id": control_id, "at": from_millis(at_ms), "by": "ops", **fields}
    return ControlTaken(control_id=control_id, at_ms=Millis(at_ms), kind=kind, event=Raw(json.dumps(event).encode()))


def moved(
    kind: Any, usd: float, of: Decision | None = None, at_ms: int = START_MS, tenant: str = "acme"
) -> MoneyMovement:
    """Give a movement in a budget of the pool `main`."""
    return MoneyMovement(
        pool="main",
        tenant_id=tenant,
        kind=kind,
        amount_uusd=MicroUsd(round(usd * 1_000_000)),
        at_ms=Millis(at_ms),
        decision_id=None if of is None else of.decision_id,
        control_id="c-credit" if of is None else None,
    )


def taken(steps: Sequence[Step], partition: int = 0) -> list[JournaledStep]:
    """Give steps as the journal would give them."""
    cursor = Cursor(partition, BEFORE_FIRST)
    found = [cursor.take(JournalRecord(partition, place, 0, value)) for place, value in enumerate(journal(steps))]
    return [one for one in found if one is not None]


def write(database: str, *steps: Step, name: str = "j", partition: int = 0) -> None:
    """Write steps into an audit as the sink does."""

    async def run() -> None:
        store = PostgresStore(lambda: connect_async(database), journal=name, name="test", transaction_s_max=30.0)
        try:
            await store.write(taken(steps, partition))
        finally:
            await store.close()

    asyncio.run(run())


def ask(database: str, query: str) -> list[dict[str, Any]]:
    """Ask the audit with the rights of a reader."""
    with psycopg.connect(database, row_factory=dict_row) as connection:
        connection.execute("SET ROLE slotwise_read")
        return connection.execute(query.encode()).fetchall()


@pytest.fixture
def audit(database: str) -> str:
    """Give a migrated database."""
    migrate(database)
    return database


def test_an_operators_event_is_one_line_however_many_partitions_took_it(audit: str) -> None:
    """What concerns all pools stands in each partition; people see it once, with the partitions."""
    drained = control("model.drained", "c-1", model="opus")
    for partition in (0, 1):
        write(audit, step(0, controls=(drained,), partition=partition), partition=partition)
    (line,) = ask(audit, "SELECT * FROM v_fleet_controls")
    assert (line["control_id"], line["kind"], line["by"], line["pool"]) == ("c-1", "model.drained", "ops", None)
    assert line["partitions"] == [0, 1]
    assert line["event"]["model"] == "opus"
    assert len(ask(audit, "SELECT * FROM v_fleet_controls_taken")) == 2


def test_a_step_that_stands_brings_its_controls_and_money_once(audit: str) -> None:
    """A second sink with the same step writes nothing of it; the check counts what was announced and found."""
    one = step(0, controls=(control("lane.restarted", "c-1", lane="docs"),), money=(moved("credit", 5),))
    write(audit, one)
    with pytest.raises(ConflictError):
        write(audit, one)
    (check,) = ask(audit, "SELECT * FROM v_audit_check")
    assert (check["controls_told"], check["controls_found"]) == (1, 1)
    assert (check["money_told"], check["money_found"]) == (1, 1)


@pytest.mark.rule("money.ledger")
def test_a_budget_adds_up_from_its_movements(audit: str) -> None:
    """Credit 10; one reservation open, one settled for less, one given back."""
    open_, settled, lost = (decision(task_id=name) for name in ("t-open", "t-settled", "t-lost"))
    write(
        audit,
        step(0, money=(moved("credit", 10), moved("credit", 3, tenant="initech"))),
        step(1, open_, settled, lost, money=tuple(moved("reserve", 2, one) for one in (open_, settled, lost))),
        step(2, work=(work(settled),), money=(moved("settle", 1.25, settled), moved("release", 2, lost))),
    )
    acme, initech = ask(audit, "SELECT * FROM v_budgets ORDER BY tenant_id")
    assert [acme[name] for name in ("credited_usd", "reserved_usd", "consumed_usd", "available_usd")] == [
        Decimal("10.000000"), Decimal("2.000000"), Decimal("1.250000"), Decimal("6.750000")
    ]  # fmt: skip
    assert initech["available_usd"] == 3


CASES_OF_MONEY = {"a millionth": 1, "a loss": -2_500_000, "over a million dollars": 1_234_567_890_123, "nothing": 0}


@pytest.mark.parametrize("uusd", CASES_OF_MONEY.values(), ids=CASES_OF_MONEY.keys())
def test_money_keeps_its_six_digits(audit: str, uusd: int) -> None:
    """No float is on the way."""
    write(audit, step(0, decision(saved_vs_premium_uusd=uusd)))
    (row,) = ask(audit, "SELECT saved_vs_premium_usd::text AS usd FROM v_model_routing_decisions")
    assert row["usd"] == f"{Decimal(uusd).scaleb(-6):.6f}"


def test_explain_answers_why_not_from_earlier_events_and_movements(audit: str) -> None:
    """The mark that stood then, not the one of later; the credit left then, not now."""
    rules = rulebook()
    alternatives = {"codex": {"gate": "exhausted"}, "opus": {"gate": "credit"}, "haiku": {"gate": "chosen"}}
    routed = decision(of=1, tenant_id="acme", alternatives=alternatives, decided_at_ms=START_MS + HOUR_MS)
    asked = TaskRow(
        task=task("t-1", tenant_id="acme", input_tokens=100_000, output_tokens=10_000),
        at_ms=Millis(START_MS),
        status=TaskStatus(state="running", attempt=1, since_ms=Millis(START_MS), accepted_ms=Millis(START_MS)),
    )
    until = from_millis(START_MS + 5 * HOUR_MS)
    write(
        audit,
        step(
            0,
            controls=(
                control("model.exhausted", "c-1", product="codex-cli", until=from_millis(START_MS + 2 * HOUR_MS)),
                control("model.exhausted", "c-2", START_MS + 1, product="codex-cli", account="acct-1", until=until),
                control("model.drained", "c-3", pool="other", model="codex"),
            ),
            money=(moved("credit", 0.5),),
        ),
        step(1, routed, tasks=(asked,), money=(moved("reserve", 0.2, routed, START_MS + HOUR_MS),)),
        step(
            2,
            now_ms=START_MS + 2 * HOUR_MS,
            controls=(control("model.restored", "c-4", START_MS + 2 * HOUR_MS, product="codex-cli"),),
            work=(work(routed),),
            money=(
                moved("settle", 0.1, routed, START_MS + 2 * HOUR_MS), moved("credit", 7, at_ms=START_MS + 2 * HOUR_MS)
            ),
        ),
    )  # fmt: skip
    reader = make_conninfo(audit, options="-c role=slotwise_read")

    found = explain_why_not(reader, "t-1", "codex", rules)
    assert found is not None
    assert found[1].says == (
        "codex-cli is exhausted until 2026-11-21T12:00:00.000Z. "
        "codex-cli of acct-1 is exhausted until 2026-11-21T15:00:00.000Z."
    )
    found = explain_why_not(reader, "t-1", "opus", rules)
    assert found is not None
    assert found[1].says == "opus would cost about $0.600000, and acme has $0.500000 of credit left."
    assert "slotwise credit acme 0.10 --pool main" in found[1].flip
    assert explain_why_not(reader, "t-nobody", "opus", rules) is None
    (told,) = explain(reader, "t-1")
    assert [one["kind"] for one in told["money"]] == ["reserve", "settle"]
    assert told["asked"] == {"input_tokens": 100_000, "output_tokens": 10_000}


@pytest.mark.rule("amend.39", "record.explain")
def test_why_not_knows_the_newest_report_of_a_quota_not_the_last_that_came(audit: str) -> None:
    """As the router: an older report that came late said nothing, and one that was dated ahead counts as of then."""
    rules = rulebook()
    asked = decision(
        of=3, alternatives={"opus": {"gate": "quota"}, "haiku": {"gate": "chosen"}}, decided_at_ms=START_MS + 9
    )
    usage = {"provider": "anthropic", "product": "claude", "window": "5h", "resets_at": "2026-11-21T15:00:00.000Z"}
    ahead = from_millis(START_MS + 8 * HOUR_MS)
    reports = (
        {**control_at(START_MS, "c-1"), **usage, "utilisation": 0.5, "at": ahead},
        {**control_at(START_MS + 2, "c-2"), **usage, "utilisation": 0.85},
        {**control_at(START_MS + 3, "c-3"), **usage, "utilisation": 0.1, "at": from_millis(START_MS + 1)},
    )
    steps = [
        step(place, now_ms=START_MS + ms, controls=(taken_at(START_MS + ms, event),))
        for place, (ms, event) in enumerate(zip((0, 2, 3), reports, strict=True))
    ]
    write(audit, *steps, step(3, asked, now_ms=START_MS + 9))
    found = explain_why_not(make_conninfo(audit, options="-c role=slotwise_read"), "t-1", "opus", rules)
    assert found is not None
    assert found[1].says == "opus is held back: claude is at 85% of its quota; opus stops at 80%."


def control_at(at_ms: int, control_id: str) -> dict[str, Any]:
    """Give the fields of every report."""
    return {"kind": "quota.updated", "control_id": control_id, "at": from_millis(at_ms), "by": "probe"}


def taken_at(at_ms: int, event: dict[str, Any]) -> ControlTaken:
    """Give a report as a step took it."""
    raw = Raw(json.dumps(event).encode())
    return ControlTaken(control_id=event["control_id"], at_ms=Millis(at_ms), kind="quota.updated", event=raw)


@pytest.mark.rule("amend.28")
def test_work_that_is_settled_after_its_release_is_in_the_budget_and_in_the_answers(audit: str) -> None:
    """The release has made the reservation available again; what came late is consumed from there, once."""
    rules = rulebook()
    lost = decision(of=1, tenant_id="acme", decided_at_ms=START_MS)
    asked = decision(
        of=2, task_id="t-2", tenant_id="acme", alternatives={"opus": {"gate": "credit"}, "haiku": {"gate": "chosen"}},
        decided_at_ms=START_MS + 1,
    )  # fmt: skip
    taken = TaskRow(
        task=task("t-2", tenant_id="acme", input_tokens=9_000_000),
        at_ms=Millis(START_MS),
        status=TaskStatus(state="running", attempt=1, since_ms=Millis(START_MS), accepted_ms=Millis(START_MS)),
    )
    write(
        audit,
        step(0, money=(moved("credit", 10),)),
        step(1, lost, money=(moved("reserve", 2, lost),)),
        step(2, asked, now_ms=START_MS + 1, tasks=(taken,), money=(moved("release", 2, lost, START_MS + 1),)),
        step(3, now_ms=START_MS + 2, work=(work(lost),), money=(moved("settle", 3, lost, START_MS + 2),)),
    )
    (found,) = ask(audit, "SELECT * FROM v_budgets")
    sums = [float(found[f"{name}_usd"]) for name in ("credited", "available", "reserved", "consumed")]
    assert sums == [10, 7, 0, 3]
    reader = make_conninfo(audit, options="-c role=slotwise_read")
    why = explain_why_not(reader, "t-2", "opus", rules)
    assert why is not None
    assert "acme has $10.000000 of credit left" in why[1].says
    (told,) = explain(reader, "t-1")
    assert [one["kind"] for one in told["money"]] == ["reserve", "release", "settle"]
    assert told["work"]["status"] == "success"


@pytest.mark.rule("amend.33")
def test_explain_says_when_a_finished_task_was_sent_again_for_nothing(audit: str) -> None:
    """With the last decision of the life that had ended; another task, or the id in another pool, has no part in it."""
    first, second = (decision(of=of, outcome="cancelled", reason_code="cancelled") for of in (1, 3))
    ended = Millis(START_MS)
    again = [
        Duplicate(pool, task_id, Millis(START_MS + ms), "cancelled", ended)
        for pool, task_id, ms in (("main", "t-1", 5), ("side", "t-1", 6), ("main", "t-2", 7))
    ]
    write(audit, step(0), step(1, first), step(2, duplicates=tuple(again)), step(3, second))
    told = explain(make_conninfo(audit, options="-c role=slotwise_read"), "t-1", pool="main")
    at, ended_at = from_millis(START_MS + 5), from_millis(START_MS)
    assert [one["sent_again"] for one in told] == [[{"at": at, "ended": "cancelled", "ended_at": ended_at}], []]


def test_a_budget_outlives_the_days_that_are_dropped(audit: str) -> None:
    """Old credits and settlements go on as sums; a reservation open at the cut is closed later all the same."""
    old_ms = START_MS - 300 * DAY_MS
    settled, open_ = (decision(task_id=name, decided_at_ms=old_ms) for name in ("t-settled", "t-open"))
    first = step(
        0, settled, open_,
        money=(
            moved("credit", 10, at_ms=old_ms), moved("reserve", 4, open_, old_ms),
            moved("reserve", 2, settled, old_ms), moved("settle", 1, settled, old_ms),
        ),
    )  # fmt: skip
    closing_ms = START_MS - 200 * DAY_MS
    closing = step(1, now_ms=closing_ms, money=(moved("settle", 3, open_, closing_ms),))
    recent_ms = int(time.time() * 1000)
    write(audit, first, closing, step(2, now_ms=recent_ms, money=(moved("credit", 1, at_ms=recent_ms),)))
    budgets = "SELECT credited_usd, reserved_usd, consumed_usd, available_usd FROM v_budgets"
    before = ask(audit, budgets)
    assert [float(value) for value in before[0].values()] == [11, 0, 4, 7]
    for keep_days in (_days_since(START_MS - 250 * DAY_MS), 30):
        assert any("budget_movements" in line for line in maintain(audit, keep_days=keep_days))
        assert ask(audit, budgets) == before


@pytest.mark.rule("control.policy.proposed")
def test_a_replay_of_a_proposal_is_known_by_its_hashes(audit: str) -> None:
    """Of these rules, in this journal, a replay, and one that was done: nothing less counts."""

    def proposed(control_id: str, **fields: Any) -> ControlTaken:
        given = {"policy": "p-1", "catalog": "c-1", "step": "replay", "outcome": "done", **fields}
        return control("policy.proposed", control_id, **given)

    others = (proposed("a", policy="p-2"), proposed("b", step="check"), proposed("c", outcome="failed"))
    write(audit, step(0, controls=others))
    asked: dict[str, Any] = {"policy": "p-1", "catalog": "c-1"}
    (journal_name,) = {row["journal"] for row in ask(audit, "SELECT journal FROM v_fleet_controls_taken")}
    assert not was_replayed(audit, journal_name, **asked)
    write(audit, step(0, partition=1, controls=(proposed("d"),)), partition=1)
    assert was_replayed(audit, journal_name, **asked)
    assert not was_replayed(audit, "another", **asked)


@pytest.mark.rule("lane.health", "control.lane.restarted")
def test_a_lane_is_judged_by_its_last_hour_since_it_was_restarted(audit: str) -> None:
    """Idle, degraded, elevated fallback, healthy; what was before a restart does not count."""
    now_ms = int(time.time() * 1000)
    lanes: dict[str, list[dict[str, Any]]] = {
        "healthy": [{}] * 9 + [{"fallback": True}],
        "fallback": [{}] * 7 + [{"fallback": True}] * 3,
        "broken": [{}] * 9 + [{"reason_code": "router_error"}],
        "restarted": [{"reason_code": "router_error"}] * 5,
        "all waiting": [{"outcome": "waiting"}] * 3,
    }
    decisions = [
        decision(of=number, task_id=f"t-{lane}-{number}", lane=lane, decided_at_ms=now_ms - 60_000, **fields)
        for lane, several in lanes.items()
        for number, fields in enumerate(several)
    ]
    decisions.append(decision(task_id="t-idle", lane="idle", decided_at_ms=now_ms - 2 * HOUR_MS))
    restarted = control("lane.restarted", "c-1", now_ms - 30_000, lane="restarted")
    write(audit, step(0, *decisions), step(1, now_ms=now_ms, controls=(restarted,)))
    found = {line["lane"]: line for line in ask(audit, "SELECT * FROM v_lane_health")}
    assert {lane: line["state"] for lane, line in found.items()} == {
        "healthy": "healthy",
        "fallback": "elevated_fallback",
        "broken": "degraded",
        "restarted": "idle",
        "all waiting": "healthy",
        "idle": "idle",
    }
    assert (found["fallback"]["fallbacks"], found["fallback"]["routed"]) == (3, 10)
    assert found["broken"]["router_error_share"] == Decimal("0.1000")


def _days_since(at_ms: int) -> int:
    return int((time.time() * 1000 - at_ms) // DAY_MS)
