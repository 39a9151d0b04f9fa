"""How the last hour went, in short spans: rates, waits and spend, from steps."""

from __future__ import annotations

from schemas.vocabulary import Millis
from streams.views.pulse import SPAN_MS, SPANS, SPANS_MIN, Pulse
from streams.views.units import share, span, usd
from tests.support.web_rig import WebRig


async def test_decisions_and_spend_are_counted_when_they_are_made() -> None:
    """A task that waited, was routed and done is two decisions and its cost, in the latest spans."""
    rig = WebRig(tokens=False)
    await rig.ask("POST", "/tasks", {"task_id": "t-1", "pool": "main"})
    await rig.ask("POST", "/slots", {"slot_id": "s-1", "pool": "main", "model": "haiku"})
    done = {"pool": "main", "lease": 1, "outcome": {"task_id": "t-1", "status": "success", "cost_usd": 0.25}}
    await rig.ask("POST", "/slots/s-1/freed", done)
    now_ms = rig.following.partitions[0].router.now_ms
    seen = rig.following.pulse.view(now_ms)
    assert round(sum(seen.decisions) * seen.span_s) == 2
    assert (seen.routed, seen.spent_usd) == (1, 0.25)
    assert seen.decisions_now > 0
    later = rig.following.pulse.view(Millis(now_ms + (SPANS + 1) * SPAN_MS))
    assert (sum(later.decisions), later.routed, later.spent_usd) == (0, 0, 0)


def test_an_hour_without_anything_is_zeros() -> None:
    """The line has its length."""
    seen = Pulse().view(Millis(10**12))
    assert seen.decisions == seen.waits_s == seen.usd_an_hour == (0.0,) * SPANS_MIN


def test_numbers_are_said_with_their_units() -> None:
    """In the two largest units, money with cents, shares as per cent."""
    assert [span(s) for s in (0, 0.44, 14, 59.6, 200, 3600, 7500, 100_000)] == [
        *("0.0 s", "0.4 s", "14 s", "1 min", "3 min 20 s", "1 h", "2 h 5 min", "1 d 3 h")
    ]
    assert [usd(x) for x in (0, 0.0041, 1234.5, -2)] == ["$0.00", "$0.0041", "$1,234.50", "-$2.00"]
    assert share(0.834) == "83 %"
