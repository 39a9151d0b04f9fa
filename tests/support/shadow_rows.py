"""A run of a shadow and one difference, as the database gives them."""

from __future__ import annotations

from schemas.shadow import Answer
from streams.shadow.report import DifferenceView, ShadowView, SideView


def side(routed: int, **tiers: int) -> SideView:
    """Give one side."""
    return SideView(
        routed=routed,
        models={"haiku": routed},
        tiers={name.removeprefix("t"): count for name, count in tiers.items()},
        estimated_usd=routed * 0.25,
        unpriced=0,
        waited=1,
        wait_s_mean=2.0,
        wait_s_max=30.0,
    )


RUN = ShadowView(
    run="r-1",
    name="p70",
    state="under way",
    policy="aaaa",
    catalog="cccc",
    fleet=None,
    journal="decision.audit",
    started_at="2026-11-29T20:00:00.000Z",
    ended_at=None,
    first_at=None,
    last_at=None,
    steps=10,
    decisions=40,
    differences={"other_model": 1},
    changed=1,
    live=side(8, t1=6, t3=2),
    shadow=side(7, t1=3, t3=4),
    says="40 live decisions compared, 1 differ, 1 of them in what is chosen.",
    partitions={"0": 9},
)
ONE = DifferenceView(
    kind="other_model",
    decided_at="2026-11-29T20:01:00.000Z",
    pool="main",
    task_id="t-1",
    title="<b>Fix</b>",
    attempt=1,
    priority=50,
    ev=4.5,
    layer=None,
    lane=None,
    tenant_id=None,
    task_type=None,
    live=Answer(
        outcome="routed", reason_code="cheapest_capable", reason="<i>cheap</i>", slot_id="haiku-1", model="haiku"
    ),
    shadow=Answer(
        outcome="routed", reason_code="lifted", reason="Its EV is above P70.", slot_id="opus-1", model="opus"
    ),
    more_usd=0.125,
    policy="aaaa",
    live_policy="bbbb",
    partition=0,
    seq=3,
    difference_id="d-1",
)
