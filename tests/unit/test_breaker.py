"""The cost breaker: what counts as spend and for how long, what a cap bars, and what is reported."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.decision import Spent
from schemas.events import BreakerOpened
from schemas.vocabulary import MicroUsd, Millis, from_millis
from streams import metrics
from streams.core.policy.breaker import BARS_COSTS, BARS_PREMIUM, BreakerPolicy, Reading
from streams.core.policy.case import Candidate, Case
from streams.core.policy.document import RulebookError
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.core.policy.rules.credit import Credit
from streams.core.router import Router
from streams.core.state.spending import Scope, Spending
from streams.shipped import shipped
from streams.views import gauges
from streams.views.overview import RecoveredPartition, overview
from tests.support.builders import START_MS, freed, rulebook, task
from tests.support.router_rig import RouterRig, outcomes

pytestmark = pytest.mark.rule("amend.52")

MINUTE_MS = 60_000
ACME = Scope("tenant", "acme")
#: Costs 0.55 dollars on haiku.
LONG = {"input_tokens": 900_000, "output_tokens": 40_000}


def capped(*limits: dict[str, Any], **shares: float) -> Rulebook:
    """Give rules with these caps."""
    return rulebook(breaker={"limit": list(limits), **shares})


def spent(at_ms: int, uusd: int, tenant: str | None = "acme", lane: str | None = None) -> Spent:
    """Give what some work cost."""
    return Spent("main", Millis(at_ms), MicroUsd(uusd), tenant, lane)


def opened(until_ms: int, **of: str) -> BreakerOpened:
    """Give the operator's event."""
    return BreakerOpened(
        control_id=f"open-{until_ms}-{of}", by="ops", at=from_millis(START_MS), until=from_millis(until_ms), **of
    )


def test_an_amount_counts_for_an_hour_and_at_most_for_a_minute_more() -> None:
    """Whatever the second of its minute."""
    for second in (0, 1, 59):
        spending = Spending()
        at_ms = START_MS + second * 1000
        spending.add(spent(at_ms, 7))
        assert spending.sums(Millis(at_ms + 60 * MINUTE_MS)) == {ACME: 7, Scope("pool", "main"): 7}
        leaves_ms = spending.leaves_ms(ACME, Millis(at_ms))
        assert at_ms + 60 * MINUTE_MS < leaves_ms <= at_ms + 61 * MINUTE_MS
        assert spending.sums(Millis(int(leaves_ms) - 1))[ACME] == 7
        assert spending.sums(Millis(int(leaves_ms))) == {}


def test_minutes_that_are_over_are_dropped() -> None:
    """However long it goes on, the state has at most an hour."""
    spending = Spending()
    for minute in range(500):
        spending.add(spent(START_MS + minute * MINUTE_MS, 1, lane="night"))
    assert len(spending.dump()) == 61
    again = Spending()
    again.load(spending.dump())
    now_ms = Millis(START_MS + 499 * MINUTE_MS)
    assert (
        again.sums(now_ms)
        == spending.sums(now_ms)
        == dict.fromkeys((ACME, Scope("lane", "night"), Scope("pool", "main")), 61)
    )


def test_without_a_cap_nothing_is_counted_and_no_row_is_longer() -> None:
    """The journal of who has no cap is as before."""
    rig = RouterRig("haiku-1", book=rulebook())
    rig.hand_in(task("a", tenant_id="acme", **LONG))
    assert rig.ends("a", cost_usd=3.0).spent == ()
    assert not rig.router.state.pool("main").spending


ENDS = {
    "as reported": ({"cost_usd": 0.25}, 250_000),
    "of its tokens": ({"input_tokens": 50_000, "output_tokens": 0}, 5_000),
    "as estimated, where nothing is reported": ({}, 550_000),
    "nothing": ({"cost_usd": 0.0}, None),
}


@pytest.mark.parametrize(("outcome", "want"), [pytest.param(*case, id=name) for name, case in ENDS.items()])
def test_what_work_has_cost_counts(outcome: dict[str, Any], want: int | None) -> None:
    """Once it has ended, not while it runs."""
    rig = RouterRig("haiku-1", book=capped({"of": "pool", "usd_per_hour": 100.0}))
    rig.hand_in(task("a", tenant_id="acme", **LONG))
    index = rig.router.indexes["main"]
    assert index.breaker.spent(Millis(rig.now_ms)) == {}
    rig.ends("a", **outcome)
    assert rig.router.state.pool("main").spending.sums(Millis(rig.now_ms)).get(ACME) == want


def test_an_end_without_an_outcome_counts_as_estimated_and_a_late_one_when_it_comes() -> None:
    """In between, of a lease that ran out, nothing counts."""
    rig = RouterRig("haiku-1", "haiku-2", book=capped({"of": "pool", "usd_per_hour": 100.0}))
    rig.hand_in(task("a", tenant_id="acme", **LONG))
    rig.hand_in(freed(str(rig.runs_on("a")), 1))
    spending = rig.router.state.pool("main").spending
    assert spending.sums(Millis(rig.now_ms))[ACME] == 550_000
    rig.hand_in(task("b", tenant_id="acme", lane="night", on_failure="drop", **LONG))
    lost, lease = str(rig.runs_on("b")), rig.row(str(rig.runs_on("b")))
    assert lease is not None
    rig.wait(1_800)
    rig.hand_in(freed(lost, lease.lease, "b", "failure", outcome={"cost_usd": 2.0}), after_s=1)
    assert spending.sums(Millis(rig.now_ms))[ACME] == 2_550_000
    assert spending.sums(Millis(rig.now_ms))[Scope("lane", "night")] == 2_000_000


def test_a_cap_by_name_stands_in_for_that_of_each() -> None:
    """A tenant with a cap of its own is not held to the other one."""
    book = capped({"of": "tenant", "usd_per_hour": 1.0}, {"of": "tenant", "name": "acme", "usd_per_hour": 50.0})
    assert book.breaker.cap_uusd(ACME) == 50_000_000
    assert book.breaker.cap_uusd(Scope("tenant", "bob")) == 1_000_000
    assert book.breaker.cap_uusd(Scope("lane", "acme")) is None


def test_what_runs_is_no_spend_yet() -> None:
    """Tasks get slots until one has ended that used the cap up; then the tenant's next one waits."""
    rig = RouterRig("haiku-1", "haiku-2", "haiku-3", book=capped({"of": "tenant", "usd_per_hour": 0.4}))
    both = rig.hand_in(task("a", tenant_id="acme", **LONG), task("b", tenant_id="acme", **LONG))
    assert outcomes(both) == {"a": "haiku-1", "b": "haiku-2"}
    assert outcomes(rig.hand_in(task("c", tenant_id="acme", **LONG))) == {"c": "haiku-3"}
    rig.hand_in(task("d", tenant_id="acme", **LONG))
    assert rig.headline("d") == "capable_busy"
    assert rig.ends("a").decisions[0].reason_code == "credit"
    assert outcomes(rig.hand_in(task("e", tenant_id="bob", **LONG))) == {"e": "haiku-1"}


def test_a_restored_router_wakes_up_at_the_same_time_and_serves_the_same() -> None:
    """The window is in the snapshot."""
    book = capped({"of": "lane", "usd_per_hour": 1.0})
    rig = RouterRig("haiku-1", book=book)
    rig.hand_in(task("a", lane="night", **LONG))
    rig.ends("a", after_s=30, cost_usd=1.5)
    rig.hand_in(task("b", lane="night", **LONG), after_s=90)
    assert rig.headline("b") == "credit"
    other = Router.restore(0, book, list(rig.router.snapshot()))
    assert rig.router.due_ms() == other.due_ms() == START_MS + 61 * MINUTE_MS
    rig.wait(61 * 60 - 120)
    assert rig.runs_on("b") == "haiku-1"


def test_an_operator_suspends_a_cap_in_one_pool_or_in_all() -> None:
    """A pool that is named later has it too; after its end the cap bars again."""
    book = capped({"of": "tenant", "usd_per_hour": 0.1})
    rig = RouterRig("haiku-1", "haiku-2", book=book)
    rig.hand_in(task("a", tenant_id="acme", **LONG))
    rig.ends("a")
    rig.hand_in(task("b", tenant_id="acme", **LONG))
    assert rig.headline("b") == "credit"
    until_ms = START_MS + 10 * MINUTE_MS
    assert outcomes(rig.hand_in(opened(until_ms, tenant_id="acme", pool="other"))) == {}
    assert outcomes(rig.hand_in(opened(until_ms, tenant_id="acme"))) == {"b": "haiku-1"}
    rig.wait(600)
    rig.hand_in(task("c", tenant_id="acme", **LONG))
    assert rig.headline("c") == "credit"


def test_a_restored_router_knows_which_caps_are_suspended() -> None:
    """A task that comes after the restart is served, until the time is over."""
    book = capped({"of": "lane", "name": "night", "usd_per_hour": 0.1})
    rig = RouterRig("haiku-1", book=book)
    rig.hand_in(task("a", lane="night", **LONG))
    rig.ends("a")
    rig.hand_in(opened(START_MS + 10 * MINUTE_MS, lane="night"))
    rig.router = Router.restore(0, book, list(rig.router.snapshot()))
    assert outcomes(rig.hand_in(task("b", lane="night", **LONG))) == {"b": "haiku-1"}
    rig.ends("b", after_s=600)
    rig.hand_in(task("c", lane="night", **LONG))
    assert rig.headline("c") == "credit"


def test_the_emergency_model_opens_where_caps_leave_nothing_else() -> None:
    """It costs nothing."""
    rig = RouterRig("haiku-1", "haiku-2", "local-1", book=capped({"of": "pool", "usd_per_hour": 0.1}))
    rig.hand_in(task("a", **LONG))
    rig.ends("a")
    assert outcomes(rig.hand_in(task("b"))) == {"b": "local-1"}


def test_what_a_cap_bars_has_a_reason_and_a_remedy() -> None:
    """At 100 % tier 3, at 120 % what costs; a model that costs nothing never."""
    book = capped({"of": "lane", "usd_per_hour": 2.0})
    opus, haiku, local = (Candidate(book.models[name]) for name in ("opus", "haiku", "local"))

    def case(level: int, uusd: int | None) -> Case:
        reading = Reading(
            Scope("lane", "night"), MicroUsd(uusd) if uusd is not None else None, MicroUsd(2_000_000), level
        )
        return Case(rulebook=book, task=task("t"), complexity=None, trip=reading)

    credit = Credit()
    at_the_cap, above = case(BARS_PREMIUM, 2_000_000), case(BARS_COSTS, 2_500_000)
    assert [credit.refuses(at_the_cap, at) for at in (opus, haiku, local)] == [True, False, False]
    assert [credit.refuses(above, at) for at in (opus, haiku, local)] == [True, True, False]
    assert credit.reason(at_the_cap, opus) == (
        "opus is of tier 3, and lane night has spent $2.000000 of its $2.000000 an hour (100%)."
    )
    assert credit.reason(above, haiku) == (
        "haiku costs something, and lane night has spent $2.500000 of its $2.000000 an hour (125%)."
    )
    assert credit.reason(case(BARS_COSTS, None), haiku) == (
        "haiku costs something, and lane night had spent too much of its $2.000000 an hour."
    )
    assert credit.remedy(above, [haiku]).endswith("slotwise breaker open --lane night --pool main --until TIME")


def test_a_cap_is_reported_from_the_first_share_on() -> None:
    """`check` has a sentence, and the gauge the share."""
    rig = RouterRig("haiku-1", "haiku-2", book=capped({"of": "tenant", "usd_per_hour": 1.0}))
    rig.hand_in(task("a", tenant_id="acme"))
    rig.ends("a", cost_usd=0.79)

    def problems() -> tuple[str, ...]:
        return overview({0: RecoveredPartition(router=rig.router)}, Millis(rig.now_ms)).problems

    def share() -> float | None:
        gauges.show([rig.router], Millis(rig.now_ms))
        labels = {"pool": "main", "of": "tenant", "name": "acme"}
        return metrics.REGISTRY.get_sample_value("slotwise_breaker_spent_share", labels)

    assert (problems(), share()) == ((), None)
    until = "waits until less was spent in the last hour."
    for task_id, want, part in (
        ("b", "main: tenant acme has spent $0.80 of $1 an hour (80%).", 0.8),
        ("c", f"main: tenant acme has spent $1.00 of $1 an hour (100%): tier 3 {until}", 1.0),
        ("d", f"main: tenant acme has spent $1.20 of $1 an hour (120%): what costs {until}", 1.2),
    ):
        rig.hand_in(task(task_id, tenant_id="acme"))
        rig.ends(task_id, cost_usd={"b": 0.01}.get(task_id, 0.2))
        assert problems() == (want,)
        assert share() == pytest.approx(part)


MISTAKES = {
    "shares that fall": ("warn_share = 1.1", "breaker.stop_share: the shares must not fall"),
    "a cap that stands there twice": (
        "limit = [{ of = 'pool', usd_per_hour = 1.0 }, { of = 'pool', usd_per_hour = 2.0 }]",
        r"breaker.limit\[2\]: a cap of pool \(each\) stands there twice",
    ),
    "a cap of something else": (
        "limit = [{ of = 'account', usd_per_hour = 1.0 }]",
        r"breaker.limit\[1\].of: 'account'",
    ),
    "a cap of nothing": ("limit = [{ of = 'pool', usd_per_hour = 0.0 }]", r"breaker.limit\[1\].usd_per_hour: 0.0"),
    "a cap without end": ("limit = [{ of = 'pool', usd_per_hour = inf }]", r"breaker.limit\[1\].usd_per_hour: inf"),
}


@pytest.mark.rule("policy.breaker")
@pytest.mark.parametrize(("section", "want"), [pytest.param(*case, id=name) for name, case in MISTAKES.items()])
def test_a_mistake_in_the_caps_is_named(section: str, want: str) -> None:
    """With its key."""
    with pytest.raises(RulebookError, match=want):
        load_rulebook(shipped("catalog.toml"), f"[breaker]\n{section}")


def test_the_shipped_policy_caps_nothing() -> None:
    """What an hour may cost is for an operator to say."""
    book = load_rulebook(shipped("catalog.toml"), shipped("policy.toml"))
    assert not book.breaker.is_on
    assert book.policy.breaker == BreakerPolicy()
