"""The gauges show the state, and making them does not scan the waiting tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from schemas.events import BudgetCredited, ModelDrained, ModelExhausted, QuotaUpdated
from schemas.vocabulary import Millis, from_millis
from streams import metrics
from streams.core.index.waits import waits
from streams.core.router import Router
from streams.views import gauges
from tests.support.builders import START_MS, inputs, rulebook, slot, task, topic_of

if TYPE_CHECKING:
    from schemas.events import Event

MINUTE_MS = 60_000
POOL = "vitals"


class Story:
    """A router that receives events one by one."""

    def __init__(self) -> None:
        self.router = Router(0, rulebook())
        self._offsets = [0, 0, 0]

    def tell(self, *events: Event, now_ms: int = START_MS) -> None:
        """Hand them over at one moment."""
        found = []
        for event in events:
            topic = topic_of(event)
            found += inputs(event, now_ms=now_ms, offset=self._offsets[topic])
            self._offsets[topic] += 1
        self.router.apply(self.router.handle(found))

    def shown(self, name: str, at_ms: int = START_MS, **labels: str) -> float | None:
        """Give the value of a metric of the pool at that moment."""
        gauges.show([self.router], Millis(at_ms))
        return metrics.REGISTRY.get_sample_value(name, {"pool": POOL, **labels})


def said(**fields: Any) -> dict[str, Any]:
    """Give what every operator's event has."""
    return {"control_id": f"c-{fields}", "at": from_millis(START_MS), "by": "ops", **fields}


@pytest.fixture
def history() -> Story:
    """Give a pool with a haiku slot and three waiting tasks, of which one has waited for ten minutes."""
    told = Story()
    told.tell(slot("haiku-1", pool=POOL), task("t-1", pool=POOL))
    told.tell(task("t-old", pool=POOL, priority=40, at_ms=START_MS))
    later_ms = START_MS + 10 * MINUTE_MS
    told.tell(task("t-new", pool=POOL, priority=45, at_ms=later_ms), now_ms=later_ms)
    told.tell(task("t-hard", pool=POOL, requires={"coding": 10}, at_ms=later_ms), now_ms=later_ms)
    return told


def test_those_who_wait_are_counted_by_reason(history: Story) -> None:
    """And a task that runs is not."""
    assert history.shown("slotwise_waiting_tasks", headline="capable_busy") == 2
    assert history.shown("slotwise_waiting_tasks", headline="no_capable_model") == 1


def test_the_longest_wait_and_the_greatest_points_are_shown(history: Story) -> None:
    """Points are priority and whole minutes; the bound that an alert compares them with stands beside them."""
    now_ms = START_MS + 12 * MINUTE_MS
    assert history.shown("slotwise_waiting_oldest_seconds", at_ms=now_ms) == 720
    assert history.shown("slotwise_waiting_points_max", at_ms=now_ms) in (52, 53)
    assert metrics.REGISTRY.get_sample_value("slotwise_patience_points") == history.router.rulebook.patience_points


def test_tasks_that_wait_for_credit_are_counted_too() -> None:
    """Two tenants, of whom one has spent what it had; a task that ran no longer counts."""
    history = Story()
    history.tell(BudgetCredited(**said(pool=POOL, tenant_id="acme", amount_usd=0.000001)), slot("haiku-1", pool=POOL))
    history.tell(
        *(task(f"t-{number}", pool=POOL, tenant_id="acme", input_tokens=1000 * number) for number in range(1, 4)),
        task("t-free", pool=POOL, tenant_id="initech"),
    )
    assert history.shown("slotwise_waiting_tasks", headline="credit") == 3
    assert history.shown("slotwise_slots", model="haiku", state="leased") == 1


@pytest.mark.parametrize("waited_s", [0, 59, 60, 61, 3_599])
def test_points_are_exact_or_one_more(waited_s: int) -> None:
    """Whatever part of a minute the task has waited."""
    history = Story()
    history.tell(task("t-1", pool=POOL, priority=10, at_ms=START_MS + 12_345), now_ms=START_MS + 12_345)
    now_ms = Millis(START_MS + 12_345 + waited_s * 1000)
    found = waits(history.router.indexes[POOL], now_ms)
    assert found is not None
    assert 0 <= found.points_max - (10 + waited_s // 60) <= 1


def test_slots_are_counted_by_model_and_state(history: Story) -> None:
    """Two slots of different models, each with a task."""
    history.tell(slot("glm-1", pool=POOL), task("t-2", pool=POOL), now_ms=START_MS + 11 * MINUTE_MS)
    assert history.shown("slotwise_slots", model="haiku", state="leased") == 1
    assert history.shown("slotwise_slots", model="glm", state="leased") == 1
    assert history.shown("slotwise_slots", model="glm", state="held") == 1, "the old name, until 0.2.0"


def test_marks_quotas_and_budgets_are_shown_while_they_last(history: Story) -> None:
    """A mark that is over, and a window that was reset, are not."""
    soon_ms = START_MS + 20 * MINUTE_MS
    soon = from_millis(soon_ms)
    history.tell(
        ModelExhausted(**said(pool=POOL, product="codex-cli", until=soon)),
        ModelDrained(**said(pool=POOL, model="opus")),
        QuotaUpdated(
            **said(
                provider="anthropic", product="claude", account="acct-1", window="5h", utilisation=0.83, resets_at=soon
            )
        ),
        BudgetCredited(**said(pool=POOL, tenant_id="acme", amount_usd=12.5)),
        now_ms=START_MS + 11 * MINUTE_MS,
    )
    exhausted: dict[str, Any] = {"kind": "exhausted", "of": "codex-cli", "account": ""}
    usage: dict[str, Any] = {"product": "claude", "account": "acct-1", "window": "5h"}
    assert history.shown("slotwise_marks_active", **exhausted) == 1
    assert history.shown("slotwise_marks_active", kind="drained", of="opus", account="") == 1
    assert history.shown("slotwise_quota_used_share", **usage) == 0.83
    assert history.shown("slotwise_budget_available_usd", tenant="acme") == 12.5
    assert history.shown("slotwise_marks_active", at_ms=soon_ms, **exhausted) is None
    assert history.shown("slotwise_quota_used_share", at_ms=soon_ms, **usage) == 0


def test_what_is_gone_is_not_shown_any_more(history: Story) -> None:
    """A worker that lost its partitions does not go on telling of them."""
    assert history.shown("slotwise_slots", model="haiku", state="leased") == 1
    gauges.show([], Millis(START_MS))
    assert (
        metrics.REGISTRY.get_sample_value("slotwise_slots", {"pool": POOL, "model": "haiku", "state": "leased"}) is None
    )
