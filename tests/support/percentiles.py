"""Sets the percentiles of a pool in one line, for tests that depend on P50 and P90."""

from __future__ import annotations

from schemas.decision import Percentiles
from tests.support.builders import START_MS, task
from tests.support.router_rig import RouterRig


def percentiles(rig: RouterRig, *evs: float) -> Percentiles | None:
    """Let these EVs become pending in `main`; their tasks expire at once, so that the EVs alone stay."""
    first = len(rig.steps) * 1000
    rig.hand_in(*(task(f"usual-{first + place}", ev=ev, deadline_ms=START_MS) for place, ev in enumerate(evs)))
    return rig.router.state.pool("main").percentiles
