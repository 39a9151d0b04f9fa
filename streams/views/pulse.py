"""How an installation has fared in the last hour, in short spans: decisions, ends, waits and spend. Pure.

It is fed with steps as they are applied, so nothing has to be read again; after a restart it knows what was followed
since, and the steps behind the last checkpoint.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from schemas.decision import Step
from schemas.vocabulary import Millis

SPAN_MS: Final = 30_000
SPANS: Final = 120
#: So many are shown although nothing is known before.
SPANS_MIN: Final = 10
_HOUR_MS: Final = 3_600_000


class Span(Struct):
    """Sums of one span of time."""

    start_ms: Millis
    routed: int = 0
    waiting: int = 0
    ended: int = 0
    #: Of the tasks that were routed: the sum of their waits.
    wait_ms: int = 0
    spent_uusd: int = 0


class PulseView(Struct, frozen=True, kw_only=True):
    """The last hour, or as much of it as is known, oldest span first; spans in which nothing happened are 0."""

    span_s: float
    #: Decisions a second.
    decisions: tuple[float, ...]
    #: Mean wait of the tasks that were routed, in seconds.
    waits_s: tuple[float, ...]
    #: What finished work has cost, as dollars an hour.
    usd_an_hour: tuple[float, ...]
    #: Decisions a second and dollars an hour of the last two spans.
    decisions_now: float
    #: Of the whole hour.
    spent_usd: float
    routed: int
    ended: int


class Pulse:
    """The spans of the last hour."""

    def __init__(self) -> None:
        #: By start; steps of several partitions come a little out of order.
        self._spans: dict[Millis, Span] = {}
        self._newest_ms = Millis(0)

    def add(self, step: Step) -> None:
        """Add what a step brought."""
        if not (step.decisions or step.work):
            return
        span = self._span(step.now_ms)
        for decision in step.decisions:
            if decision.outcome == "routed":
                span.routed += 1
                span.wait_ms += max(0, decision.decided_at_ms - decision.waiting_since_ms)
            elif decision.outcome == "waiting":
                span.waiting += 1
            else:
                span.ended += 1
        span.spent_uusd += sum(work.cost_uusd or 0 for work in step.work)

    def view(self, now_ms: Millis) -> PulseView:
        """Return the hour before a time."""
        last_ms = now_ms - now_ms % SPAN_MS
        first_ms = min(self._spans, default=last_ms)
        count = min(SPANS, max(SPANS_MIN, (last_ms - first_ms) // SPAN_MS + 2))
        starts = [Millis(last_ms - (count - 1 - n) * SPAN_MS) for n in range(count)]
        spans = [self._spans.get(start_ms) or Span(start_ms) for start_ms in starts]
        counts = [one.routed + one.waiting + one.ended for one in spans]
        in_span_s = max(1.0, (now_ms % SPAN_MS) / 1000)
        before, present = counts[-2], counts[-1]
        return PulseView(
            span_s=SPAN_MS / 1000,
            decisions=tuple(count * 1000 / SPAN_MS for count in counts),
            waits_s=tuple(one.wait_ms / one.routed / 1000 if one.routed else 0.0 for one in spans),
            usd_an_hour=tuple(one.spent_uusd / 1e6 * _HOUR_MS / SPAN_MS for one in spans),
            decisions_now=(before + present) / (SPAN_MS / 1000 + in_span_s),
            spent_usd=sum(one.spent_uusd for one in spans) / 1e6,
            routed=sum(one.routed for one in spans),
            ended=sum(one.ended for one in spans),
        )

    def _span(self, at_ms: Millis) -> Span:
        start_ms = Millis(at_ms - at_ms % SPAN_MS)
        span = self._spans.get(start_ms)
        if span is None:
            span = self._spans[start_ms] = Span(start_ms)
            self._newest_ms = max(self._newest_ms, start_ms)
            oldest_ms = self._newest_ms - SPANS * SPAN_MS
            self._spans = {start: one for start, one in self._spans.items() if start >= oldest_ms}
        return span
