"""A router restored from a snapshot knows fewer names than the one that took it, and decides the same to the byte."""

from __future__ import annotations

import pytest

from schemas.events import BudgetCredited, Event, ModelDrained, ModelExhausted
from schemas.steps import encode_step
from streams.core.router import Router
from tests.support.builders import inputs, task
from tests.support.router_rig import RouterRig, picture

AT = "2026-11-21T10:00:00.000Z"
LATER = "2026-11-21T11:00:00.000Z"


def credit(pool: str, usd: float) -> BudgetCredited:
    """Credit acme in a pool."""
    return BudgetCredited(control_id=f"{pool}-{usd}", at=AT, by="ops", pool=pool, tenant_id="acme", amount_usd=usd)


@pytest.mark.parametrize(
    "order",
    [
        ModelExhausted(control_id="m", at=AT, by="ops", product="zhipu", until=LATER),
        ModelDrained(control_id="m", at=AT, by="ops", model="glm"),
    ],
    ids=["exhausted", "drained"],
)
def test_a_pool_that_was_only_named_does_not_change_the_order_of_a_step(order: Event) -> None:
    """Pool a was named by a refused task; what is said of all pools looks at those in which there is something."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("refused", pool="a", floor_model="no-such-model"))
    restored = Router.restore(0, rig.book, picture(rig.router))
    batch = inputs(order, credit("main", 5.0), credit("a", 7.0), now_ms=rig.now_ms, offset=50)
    assert encode_step(restored.handle(batch)) == encode_step(rig.router.handle(batch))


def test_a_tenant_is_known_to_be_poor_whenever_its_budget_began() -> None:
    """Its task waited before the first credit, which covers nothing; both routers say so."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("in-the-way"))
    rig.hand_in(task("waits", tenant_id="acme", input_tokens=100_000))
    rig.hand_in(credit("main", 0.000_001), after_s=2)
    assert rig.headline("waits") == "credit"
    restored = Router.restore(0, rig.book, picture(rig.router))
    batch = inputs(credit("main", 90.0), now_ms=rig.now_ms + 1_000, offset=60)
    step = rig.router.handle(batch)
    assert encode_step(restored.handle(batch)) == encode_step(step)
    assert [one.reason_code for one in step.decisions] == ["capable_busy"]
