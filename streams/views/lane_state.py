"""The state of a lane by what was decided for it in an hour: idle, degraded, elevated_fallback or healthy. Pure.

`lane_state` in the audit is the same, for those who ask in SQL; a test compares the two.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

LaneState: TypeAlias = Literal["idle", "healthy", "elevated_fallback", "degraded"]
#: From the best to the worst.
LANE_STATES: Final[tuple[LaneState, ...]] = get_args(LaneState)

#: Of what was routed, in per cent: so much by the static fallback is degraded, so much by a second choice elevated.
ROUTER_ERROR_PERCENT: Final = 5
FALLBACK_PERCENT: Final = 20


def lane_state(decisions: int, routed: int, router_errors: int, fallbacks: int) -> LaneState:
    """Return the state by what the last hour had; only routed tasks say how good it is."""
    if not decisions:
        return "idle"
    if routed and router_errors * 100 >= routed * ROUTER_ERROR_PERCENT:
        return "degraded"
    if routed and fallbacks * 100 >= routed * FALLBACK_PERCENT:
        return "elevated_fallback"
    return "healthy"


class LaneLine(Struct, frozen=True, kw_only=True):
    """One lane in the last hour, as the audit has it; shares are of `routed`, None where nothing was routed."""

    lane: str
    state: LaneState
    decisions: int
    routed: int
    router_errors: int
    router_error_share: float | None
    fallbacks: int
    fallback_share: float | None
    last_decided_at: str
    restarted_at: str | None

    def sentence(self) -> str:
        """Say the state, and by what."""
        match self.state:
            case "degraded":
                why = f"{self.router_errors} of {self.routed} tasks routed in the last hour went by the static fallback"
                return f"Lane {self.lane} is degraded: {why}, because the policy failed on them."
            case "elevated_fallback":
                why = f"{self.fallbacks} of {self.routed} tasks routed in the last hour were given to a second choice"
                return f"Lane {self.lane} has elevated fallback: {why}; the first was refused or busy."
            case "idle":
                return (
                    f"Lane {self.lane} is idle: no decision in the last hour, the last one at {self.last_decided_at}."
                )
            case _:
                return f"Lane {self.lane} is healthy: {self.routed} tasks routed in the last hour."
