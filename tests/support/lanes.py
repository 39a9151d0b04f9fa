"""Lanes for tests: counts on both sides of each threshold, and a line as the audit has it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from streams.views.lane_state import LaneLine, LaneState

#: (decisions, routed, router errors, fallbacks) -> state
BOUNDARIES: Final[dict[tuple[int, int, int, int], LaneState]] = {
    (0, 0, 0, 0): "idle",
    (7, 0, 0, 0): "healthy",
    (100, 100, 4, 19): "healthy",
    (100, 100, 5, 0): "degraded",
    (100, 100, 5, 90): "degraded",
    (100, 100, 4, 20): "elevated_fallback",
    (1000, 999, 49, 199): "healthy",
    (1000, 999, 50, 0): "degraded",
    (1000, 999, 0, 200): "elevated_fallback",
    (1, 1, 1, 0): "degraded",
    (1, 1, 0, 1): "elevated_fallback",
    (20, 5, 0, 0): "healthy",
}


def lane_line(lane: str, state: LaneState) -> LaneLine:
    """Give a lane of which one of four routed tasks went wrong."""
    fields: dict[str, Any] = {"lane": lane, "state": state, "decisions": 9, "routed": 4, "router_errors": 1}
    fields |= {"router_error_share": 0.25, "fallbacks": 1, "fallback_share": 0.25}
    return msgspec.convert(fields | {"last_decided_at": "2026-11-21T10:00:00.000Z", "restarted_at": None}, LaneLine)
