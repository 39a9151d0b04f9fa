"""The state of a lane by the last hour, in the metrics of a worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw

from schemas.decision import ControlTaken
from schemas.vocabulary import Millis
from streams import metrics
from streams.core.router import Router
from streams.lane_window import HOUR_MS, LANES, MINUTE_MS, LaneWindow
from streams.views import gauges
from streams.views.lane_state import lane_state
from streams.views.overview import overview, with_lanes
from tests.support.builders import START_MS, decision, rulebook, step
from tests.support.lanes import BOUNDARIES, lane_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.decision import Decision, Step


@pytest.fixture
def window() -> Iterator[LaneWindow]:
    """Give the window of this process, empty before and after."""
    LANES.__init__()  # type: ignore[misc]
    yield LANES
    LANES.__init__()  # type: ignore[misc]


def decided(number: int, at_ms: int, **named: Any) -> Decision:
    """Give a decision of the lane docs."""
    return decision(of=number, task_id=f"t-{number}", decided_at_ms=at_ms, **{"lane": "docs", **named})


def restart(at_ms: int, **event: str) -> ControlTaken:
    """Give the restart of the lane docs."""
    text = json.dumps({"kind": "lane.restarted", "lane": "docs", **event}).encode()
    return ControlTaken(control_id="c-1", at_ms=Millis(at_ms), kind="lane.restarted", event=Raw(text))


@pytest.mark.parametrize(("counts", "want"), BOUNDARIES.items(), ids=str)
def test_the_thresholds_are_five_and_twenty_per_cent_of_what_was_routed(
    counts: tuple[int, int, int, int], want: str
) -> None:
    """At the threshold the worse state holds; without a decision it is idle, with waiting tasks only healthy."""
    assert lane_state(*counts) == want


def states(router: Router, at_ms: int) -> dict[str, str]:
    """Give the state of each lane as the metrics have it."""
    gauges.show([router], Millis(at_ms))
    samples = [one for family in metrics.REGISTRY.collect() for one in family.samples]
    return {
        one.labels["lane"]: one.labels["state"] for one in samples if one.name == "slotwise_lane_state" and one.value
    }


def take(window: LaneWindow, *steps: Step) -> None:
    """Count steps."""
    for one in steps:
        window.add(one)


def test_a_lane_is_judged_by_its_last_hour(window: LaneWindow) -> None:
    """One of four by a second choice is elevated; an hour later the lane is idle, a day later it is forgotten."""
    router = Router(0, rulebook())
    found = [decided(n, START_MS + n, fallback=n == 0) for n in range(4)]
    take(window, step(0, *found, decided(9, START_MS, lane=None)))
    assert states(router, START_MS + 1000) == {"docs": "elevated_fallback", "(none)": "healthy"}
    take(window, step(1, decided(5, START_MS + MINUTE_MS, reason_code="router_error")))
    assert states(router, START_MS + 2 * MINUTE_MS)["docs"] == "degraded"
    assert states(router, START_MS + HOUR_MS + 5 * MINUTE_MS) == {"docs": "idle", "(none)": "idle"}
    assert states(router, START_MS + 25 * HOUR_MS) == {}


def test_a_restarted_lane_is_judged_from_there_on(window: LaneWindow) -> None:
    """Also within the step of the restart; another pool's restart changes nothing."""
    router = Router(0, rulebook())
    bad = [decided(n, START_MS + n, reason_code="router_error") for n in range(3)]
    take(window, step(0, *bad), step(1, controls=(restart(START_MS + 10, pool="other"),)))
    assert states(router, START_MS + 20)["docs"] == "degraded"
    late = [decided(7, START_MS + 30, reason_code="router_error"), decided(8, START_MS + 50)]
    take(window, step(2, *late, controls=(restart(START_MS + 40),)))
    assert states(router, START_MS + 60)["docs"] == "healthy"


def test_partitions_that_another_worker_has_are_left_out(window: LaneWindow) -> None:
    """After a rebalance each worker shows its own."""
    take(window, step(0, decided(1, START_MS), partition=3))
    assert states(Router(0, rulebook()), START_MS) == {}


def test_a_degraded_lane_needs_a_person() -> None:
    """Check is not well then, and says why; elevated fallback is only said."""
    found = overview({}, Millis(START_MS))
    elevated = lane_line("app", "elevated_fallback")
    assert with_lanes(found, (elevated, lane_line("docs", "healthy"))).well == found.well
    worse = with_lanes(found, (elevated, lane_line("docs", "degraded")))
    assert not worse.well
    assert worse.problems[-1].startswith("Lane docs is degraded: 1 of 4 tasks routed in the last hour")
    assert worse.attention[-1].needs_person
