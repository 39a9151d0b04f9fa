"""A step that a rival's took the place of may have looked ahead in time; the steps after it do not know."""

from __future__ import annotations

from typing import Any

from schemas.events import BudgetCredited, Event, ModelDrained, ModelRestored
from schemas.vocabulary import from_millis
from tests.support.builders import START_MS, inputs, slot, task
from tests.support.router_rig import RouterRig, outcomes

ASKED = task("asked", tenant_id="acme", input_tokens=10_000, output_tokens=1_000)


def test_a_look_ahead_does_not_make_a_busy_slot_fresh() -> None:
    """Ten minutes ahead both slots were idle long enough; now one was busy for longer than the other."""
    rig = RouterRig("haiku-1", "haiku-2")
    rig.hand_in(task("long"), task("short"))
    assert rig.runs_on("long") == "haiku-1"
    rig.ends("short", after_s=45)
    rig.ends("long", after_s=45)
    rig.router.handle(inputs(task("never-taken"), now_ms=rig.now_ms + 600_000))
    assert outcomes(rig.hand_in(task("next"), after_s=1)) == {"next": "haiku-2"}


def test_a_look_ahead_does_not_age_anybody() -> None:
    """At 1:45 the second has its point as well, and the higher EV; at 1:20 only the first has one."""
    rig = RouterRig()
    rig.hand_in(task("first", ev=1.0, at_ms=START_MS + 10_000), after_s=10)
    rig.hand_in(task("second", ev=2.0, at_ms=START_MS + 40_000), after_s=30)
    rig.hand_in(task("third", ev=3.0, at_ms=START_MS + 50_000), after_s=10)
    ahead = rig.router.handle(inputs(slot("haiku-1"), now_ms=START_MS + 105_000))
    assert outcomes(ahead)["second"] == "haiku-1"
    assert outcomes(rig.hand_in(slot("haiku-1"), after_s=30))["first"] == "haiku-1"


def test_a_router_that_only_follows_decides_by_marks_of_the_journal() -> None:
    """It had looked at the pool before the mark was made, and takes over after it."""
    rig = RouterRig("haiku-1", "haiku-2")
    follower = rig.follower
    follower.handle(inputs(task("never-taken"), now_ms=rig.now_ms + 1))
    said: dict[str, Any] = {"model": "haiku", "by": "ops", "at": from_millis(START_MS)}
    told: list[tuple[Event, str]] = [
        (ModelDrained(control_id="c-1", **said), "drained"),
        (ModelRestored(control_id="c-2", **said), "haiku-1"),
    ]
    for number, (event, want) in enumerate(told):
        rig.hand_in(event, after_s=1)
        asked = inputs(task(f"asked-{number}"), now_ms=rig.now_ms + 1, offset=100 + number)
        assert outcomes(follower.handle(asked)) == {f"asked-{number}": want}


def test_a_follower_that_looked_ahead_announces_a_headline_that_comes_back() -> None:
    """It had found every headline announced while opus was free; the next one was announced while it was not."""
    rig = RouterRig("opus-1", "haiku-1")
    rig.hand_in(*(task(f"later-{n}", ev=10.0 + n, not_before_ms=START_MS + 3_600_000) for n in range(6)))
    rig.hand_in(task("takes-haiku", max_tier=1))
    follower = rig.follower
    follower.handle(inputs(task("never-taken"), now_ms=rig.now_ms + 1))
    assert outcomes(rig.hand_in(task("high", ev=50.0, floor_model="opus"), task("low", ev=1.0))) == {
        "high": "opus-1",
        "low": "capable_busy",
    }
    freed = inputs(rig.end_of("high"), now_ms=rig.now_ms + 1, offset=100)
    assert outcomes(follower.handle(freed)) == {"low": "reserved_for_ev"}


def test_a_look_at_less_credit_leaves_no_task_outside_of_its_budget() -> None:
    """The tenant has enough; a discarded step saw it nearly without; after that its credit is taken away."""
    rig, cost_usd = RouterRig("haiku-1"), _cost_usd()
    rig.hand_in(_credited(1, 3.0 * cost_usd), task("in-the-way"))
    router, now_ms = rig.router, rig.now_ms
    step = router.handle(inputs(ASKED, now_ms=now_ms, offset=100))
    assert outcomes(step) == {"asked": "capable_busy"}
    router.handle(inputs(_credited(2, -2.9 * cost_usd), now_ms=now_ms, offset=100))
    router.apply(step)
    assert outcomes(router.handle(inputs(_credited(3, -3.0 * cost_usd), now_ms=now_ms, offset=200))) == {
        "asked": "credit"
    }


def test_a_budget_that_was_only_looked_at_does_not_hide_what_its_tasks_cost() -> None:
    """A discarded step saw a budget of a tenant without tasks; its first task comes, then too small a budget."""
    rig = RouterRig("haiku-1")
    rig.discarded = inputs(_credited(1, 1.0), now_ms=rig.now_ms, offset=100)
    rig.follower.handle(rig.discarded)
    rig.hand_in(ASKED, task("in-the-way", priority=90))
    assert rig.headline("asked") == "capable_busy"
    said = inputs(_credited(2, 0.000_001), now_ms=rig.now_ms, offset=100)
    for router in (rig.router, rig.follower):
        assert outcomes(router.handle(said)) == {"asked": "credit"}


def _cost_usd() -> float:
    return RouterRig().book.cost_max_uusd(ASKED, None) / 1e6


def _credited(number: int, amount_usd: float) -> Event:
    return BudgetCredited(
        control_id=f"c-{number}",
        pool="main",
        tenant_id="acme",
        amount_usd=amount_usd,
        by="ops",
        at=from_millis(START_MS),
    )


def test_a_budget_that_was_only_looked_at_leaves_no_task_outside_of_the_next_one() -> None:
    """While a step with the tenant's first task is on its way, another, discarded, saw it without credit."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("in-the-way"))
    router, now_ms = rig.router, rig.now_ms
    step = router.handle(inputs(ASKED, now_ms=now_ms, offset=100))
    assert outcomes(step) == {"asked": "capable_busy"}
    router.handle(inputs(_credited(1, -1.0), now_ms=now_ms, offset=100))
    router.apply(step)
    said = inputs(_credited(2, 0.000_001), now_ms=now_ms, offset=200)
    assert outcomes(router.handle(said)) == {"asked": "credit"}
