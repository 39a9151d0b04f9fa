"""An escalated task keeps its lowest tier."""

from __future__ import annotations

import pytest

from tests.support.builders import slot, task
from tests.support.router_rig import RouterRig, outcomes


@pytest.mark.parametrize("how", ["restarted", "lost"])
def test_an_escalated_task_stays_escalated_when_its_slot_goes_away(how: str) -> None:
    """A failure on haiku was reported; a restart or loss of sonnet does not count as one."""
    rig = RouterRig("haiku-1", "sonnet-1", "sonnet-2")
    rig.hand_in(task("t", on_failure="escalate"))
    assert outcomes(rig.ends("t", "failure"))["t"] == "sonnet-1"
    # An idle haiku is there and would be cheaper.
    step = rig.hand_in(slot("sonnet-1", at_ms=rig.now_ms + 1_000), after_s=1) if how == "restarted" else rig.wait(1_800)
    assert outcomes(step)["t"].startswith("sonnet")
    assert rig.ends("t", "failure").decisions[0].reason_code == "floor"


@pytest.mark.rule("outcome.escalate")
def test_a_task_escalates_twice_at_most() -> None:
    """The failure of the third, at tier 3, is its end."""
    rig = RouterRig("haiku-1", "sonnet-1", "opus-1")
    rig.hand_in(task("t", on_failure="escalate"))
    for want in ("sonnet-1", "opus-1", "dead_lettered"):
        assert outcomes(rig.ends("t", "failure"))["t"] == want
