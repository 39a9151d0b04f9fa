"""When the policy itself fails on a task, the static fallback decides: the first capable model in catalogue order."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.events import ModelDrained, TaskPending
from schemas.vocabulary import from_millis
from streams.core.policy.case import Candidate, Case
from streams.core.policy.rules.capability import Capability
from streams.core.policy.rules.context import Context
from streams.core.step import choosing
from tests.support.builders import START_MS, slot, task
from tests.support.router_rig import RouterRig, outcomes


@pytest.fixture
def a_gate_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a gate, met by tasks titled `odd` only."""
    sound = Context.refuses

    def refuses(self: Context, case: Case, at: Candidate) -> bool:
        if case.task.title == "odd":
            raise ZeroDivisionError
        return sound(self, case, at)

    monkeypatch.setattr(Context, "refuses", refuses)


def odd(task_id: str, **named: Any) -> TaskPending:
    """Give a task on which the policy fails."""
    return task(task_id, title="odd", **named)


@pytest.mark.rule("fallback", "reason.router_error")
@pytest.mark.usefixtures("a_gate_fails")
def test_where_a_gate_fails_the_first_capable_model_in_catalogue_order_is_taken() -> None:
    """The dearest of the shipped ones, and it is counted; the task beside it is decided as ever."""
    rig = RouterRig("haiku-1", "haiku-2", "sonnet-1", "opus-1")
    step = rig.hand_in(odd("a", requires={"coding": 5}), task("b"))
    assert outcomes(step) == {"a": "opus-1", "b": "haiku-1"}
    said = {one.task_id: (one.reason_code, one.fallback) for one in step.decisions}
    assert said == {"a": ("router_error", True), "b": ("cheapest_capable", False)}
    assert step.counts == {"router_error": 1}


@pytest.mark.rule("fallback")
@pytest.mark.usefixtures("a_gate_fails")
def test_bars_and_operators_bind_the_fallback_too() -> None:
    """Ratings are met, and what is drained or used up is not taken."""
    rig = RouterRig("haiku-1", "codex-1", "sonnet-1", "opus-1")
    drained = [
        ModelDrained(control_id=f"c-{model}", model=model, by="ops", at=from_millis(START_MS))
        for model in ("opus", "sonnet")
    ]
    step = rig.hand_in(*drained, odd("a", requires={"coding": 8}))
    assert outcomes(step) == {"a": "codex-1"}
    step = rig.hand_in(odd("b", requires={"coding": 8}))
    assert [one.outcome for one in step.decisions] == ["waiting"]
    assert rig.runs_on("b") is None
    rig.hand_in(slot("codex-2"))
    assert rig.runs_on("b") == "codex-2"
    assert rig.count("router_error") == 2


@pytest.mark.usefixtures("a_gate_fails")
def test_the_fallback_takes_the_local_model_as_any_other() -> None:
    """Where the policy fails it is unknown whether there is an emergency; the task keeps its class."""
    rig = RouterRig("haiku-1", "local-1")
    rig.hand_in(task("in-the-way"))
    (said,) = rig.hand_in(odd("a", complexity="expert")).decisions
    assert (said.chosen_slot_id, said.reason_code, said.complexity) == ("local-1", "router_error", "expert")


def test_where_even_the_bars_fail_any_model_is_capable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Better a decision than none."""

    def refuses(_rule: Capability, _case: Case, _at: Candidate) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(Capability, "refuses", refuses)
    rig = RouterRig("haiku-1", "glm-1")
    step = rig.hand_in(task("a", requires={"coding": 10}))
    assert outcomes(step) == {"a": "haiku-1"}
    assert step.decisions[0].reason_code == "router_error"


@pytest.mark.rule("fallback")
def test_where_a_strategy_fails_the_first_admissible_model_in_catalogue_order_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its gates still hold: what they refuse is not taken."""

    def tier_mask(*_given: Any, **_named: Any) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(choosing, "tier_mask", tier_mask)
    rig = RouterRig("haiku-1", "sonnet-1", "opus-1")
    step = rig.hand_in(task("a", max_tier=2))
    assert outcomes(step) == {"a": "sonnet-1"}
    assert (step.decisions[0].reason_code, step.decisions[0].fallback) == ("router_error", True)
    assert rig.count("router_error") == 1
