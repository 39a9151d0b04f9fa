"""Answers of plug-ins decide, stay with the task and are in the journal, so that they are asked only once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.decision import Advice, Decision, Step
from schemas.events import TaskPending
from schemas.steps import encode_step
from streams.core.policy.rulebook import load_rulebook
from streams.core.router import Router
from streams.shipped import shipped
from tests.support.builders import START_MS, inputs, slot, task
from tests.support.router_rig import RouterRig, outcomes, picture

#: Two plug-ins that may be strategies; which are installed is of no interest to a router.
POLICY = '[plugins]\nstrategies = ["mine", "yours"]\n[strategy]\ndefault = "mine"\n[lane.docs]\nstrategy = "yours"\n'


def rig(*slots: str, policy: str = POLICY) -> RouterRig:
    """Give a rig whose tasks use a plug-in's strategy by default."""
    return RouterRig(*slots, book=load_rulebook(shipped("catalog.toml"), policy))


def hand_in(at: RouterRig, *advised: tuple[TaskPending, Advice | None]) -> Step:
    """Hand in tasks with what plug-ins said of them."""
    offset = at.router.position(0) + 1
    batch = inputs(*(one for one, _ in advised), now_ms=at.now_ms, offset=offset)
    return at.take([replace(item, advice=advice) for item, (_, advice) in zip(batch, advised, strict=True)])


def decided(of: RouterRig, advice: Advice | None, **fields: Any) -> Decision:
    """What becomes of one task that comes with this advice."""
    return hand_in(of, (task(**fields), advice)).decisions[0]


FLEET = ("haiku-1", "gemini-flash-1", "sonnet-1", "opus-1")


@pytest.mark.rule("plugin.advice", "reason.preference")
def test_a_strategys_first_model_with_a_free_slot_is_taken() -> None:
    """The first listed model with a free slot is chosen, at any price."""
    found = decided(rig(*FLEET), Advice(strategy="mine", ranking=("gpt-5", "sonnet", "haiku")))
    assert (found.chosen_slot_id, found.strategy) == ("sonnet-1", "mine")
    assert found.reason.startswith("sonnet is number 2 on the list of plug-in mine")


def test_where_none_of_a_strategys_models_is_free_the_cheapest_capable_is_taken() -> None:
    """A ranking is a preference and refuses no model."""
    found = decided(rig("haiku-1", "opus-1"), Advice(strategy="mine", ranking=("sonnet",)))
    assert (found.chosen_slot_id, found.reason_code) == ("haiku-1", "cheapest_capable")


def test_a_lane_has_a_strategy_of_its_own() -> None:
    """Other strategies are not asked in that lane."""
    order = ("opus",)
    assert decided(rig(*FLEET), Advice(strategy="yours", ranking=order), lane="docs").chosen_model == "opus"
    assert decided(rig(*FLEET), Advice(strategy="mine", ranking=order), lane="docs").chosen_model == "haiku"


@pytest.mark.parametrize("advice", [None, Advice(failed=("mine",))], ids=["not asked", "it failed"])
def test_without_its_strategys_word_a_task_goes_to_the_cheapest_capable(advice: Advice | None) -> None:
    """A plug-in that does not answer delays no task."""
    found = decided(rig("haiku-1", "opus-1"), advice)
    assert (found.chosen_slot_id, found.reason_code) == ("haiku-1", "cheapest_capable")
    assert found.flags == (() if advice is None else ("plugin_failed",))


@pytest.mark.rule("gate.boundary")
def test_a_model_that_a_rule_refuses_is_out_of_bounds() -> None:
    """The next one takes the task."""
    found = decided(rig("haiku-1", "opus-1"), Advice(refused={"haiku": "mine: No."}))
    gates = {model: one["gate"] for model, one in json.loads(bytes(found.alternatives)).items()}
    assert gates == {"haiku": "boundary", "opus": "chosen"}


def test_a_task_that_rules_keep_from_every_model_waits_with_their_sentences() -> None:
    """Each once, so that explain need not ask the plug-ins."""
    said = {"haiku": "mine: No.", "opus": "mine: No.", "sonnet": "yours: Neither."}
    found = decided(rig("haiku-1", "opus-1", "sonnet-1"), Advice(refused=said))
    assert (found.outcome, found.reason_code) == ("waiting", "boundary")
    assert found.reason.endswith("No capable model of the fleet is allowed. Plug-in mine: No. Plug-in yours: Neither.")


def test_a_scorers_value_is_the_tasks_ev() -> None:
    """In the decision and among those that percentiles are of; where it said nothing, the ingredients count."""
    step = hand_in(
        rig("haiku-1"),
        (task("t-1"), Advice(ev=12.5)),
        (task("t-2", importance=2.0, tractability=3.0, impact=4.0, estimated_cost=2.0), None),
        (task("t-3"), None),
    )
    assert {one.task_id: one.ev for one in step.decisions} == {"t-1": 12.5, "t-2": 12.0, "t-3": None}
    assert sorted(one.ev for one in step.evs) == [12.0, 12.5]


def test_what_was_said_stays_with_a_task_that_waits_and_with_its_next_attempt() -> None:
    """Also after a restore from a snapshot."""
    at = rig()
    advice = Advice(strategy="mine", ranking=("opus",), refused={"sonnet": "mine: No."}, failed=("yours",))
    hand_in(at, (task("t-1"), advice))
    at.router = Router.restore(0, at.book, picture(at.router))
    assert outcomes(at.hand_in(*(slot(name) for name in ("haiku-1", "opus-1", "sonnet-1")))) == {"t-1": "opus-1"}
    at.ends("t-1", "failure")
    again = at.wait(5).decisions[0]
    assert (again.attempt, again.chosen_slot_id, again.flags) == (2, "opus-1", ("plugin_failed",))


def test_the_journal_says_which_input_came_with_which_advice() -> None:
    """Replay with the advice gives the same step; without it another one."""
    at = rig(*FLEET)
    advised = ((task("t-1"), None), (task("t-2"), Advice(strategy="mine", ranking=("opus",))), (task("t-3"), None))
    step = hand_in(at, *advised)
    assert step.advice == ((1, advised[1][1]),)
    fresh = rig(*FLEET).router
    batch = inputs(*(one for one, _ in advised), now_ms=START_MS)
    said = dict(step.advice)
    assert encode_step(fresh.handle([replace(one, advice=said.get(i)) for i, one in enumerate(batch)])) == encode_step(
        step
    )
    assert encode_step(fresh.handle(batch)) != encode_step(step)
