"""What was decided for each lane in the last hour, counted by the minute from the steps that this worker journals.

Counts begin with the worker: what was decided before it started is in the audit, not here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from schemas.vocabulary import Millis

if TYPE_CHECKING:
    from schemas.decision import Step

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
#: A lane without a decision for so long is forgotten.
FORGOTTEN_MS: Final = 24 * HOUR_MS
NO_LANE: Final = "(none)"


class LaneCounts(Struct):
    """Decisions of some time."""

    decisions: int = 0
    routed: int = 0
    router_errors: int = 0
    fallbacks: int = 0

    def add(self, other: LaneCounts) -> None:
        """Add others to these."""
        self.decisions += other.decisions
        self.routed += other.routed
        self.router_errors += other.router_errors
        self.fallbacks += other.fallbacks


class _Restarted(Struct, frozen=True):
    lane: str
    pool: str | None = None


_RESTARTED: Final = msgspec.json.Decoder(_Restarted)


class LaneWindow:
    """The last hour of each lane."""

    def __init__(self) -> None:
        #: (partition, pool, lane) -> minute -> counts
        self._minutes: defaultdict[tuple[int, str, str], dict[int, LaneCounts]] = defaultdict(dict)
        self._last_ms: dict[tuple[int, str, str], Millis] = {}

    def add(self, step: Step) -> None:
        """Count a step; after `lane.restarted` the counts of a lane begin again."""
        restarts = [(_RESTARTED.decode(one.event), one.at_ms) for one in step.controls if one.kind == "lane.restarted"]
        for restarted, _ in restarts:
            for key in self._minutes:
                if key[0] == step.partition and key[2] == restarted.lane and restarted.pool in (None, key[1]):
                    self._minutes[key].clear()
        for one in step.decisions:
            key = (step.partition, one.pool, one.lane or NO_LANE)
            self._last_ms[key] = one.decided_at_ms
            if any(
                one.lane == restarted.lane and restarted.pool in (None, one.pool) and one.decided_at_ms < at_ms
                for restarted, at_ms in restarts
            ):
                continue
            minutes = self._minutes[key]
            minute = one.decided_at_ms // MINUTE_MS
            counts = minutes.get(minute)
            if counts is None:
                for old in [known for known in minutes if known < minute - HOUR_MS // MINUTE_MS]:
                    del minutes[old]
                counts = minutes[minute] = LaneCounts()
            counts.decisions += 1
            if one.outcome == "routed":
                counts.routed += 1
                counts.router_errors += one.reason_code == "router_error"
                counts.fallbacks += one.fallback

    def lanes(self, now_ms: Millis, partitions: Collection[int]) -> dict[str, LaneCounts]:
        """Return what these partitions decided in the last hour, to the minute, by lane; drop other partitions."""
        found: defaultdict[str, LaneCounts] = defaultdict(LaneCounts)
        for key, last_ms in list(self._last_ms.items()):
            if key[0] not in partitions or last_ms < now_ms - FORGOTTEN_MS:
                del self._last_ms[key]
                self._minutes.pop(key, None)
                continue
            lane = found[key[2]]
            for minute, counts in self._minutes[key].items():
                if minute * MINUTE_MS > now_ms - HOUR_MS:
                    lane.add(counts)
        return dict(found)


#: Of this process, as the metrics are.
LANES: Final = LaneWindow()
