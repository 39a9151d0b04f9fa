"""`task.cancelled` and `task.finished` follow from the journal alone, and say what the work came to."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from schemas.decision import Step
from schemas.json_schema import json_schema
from schemas.steps import decode_step, encode_step
from schemas.vocabulary import TASK_CANCELLED, TASK_FINISHED
from streams.partition.outputs import output_records
from tests.support.builders import START_MS, cancelled, freed, retired, task
from tests.support.router_rig import RouterRig

pytestmark = pytest.mark.rule("wire.ended")


def said(step: Step, topic: str) -> list[dict[str, Any]]:
    """What a step publishes on a topic, read from its bytes in the journal."""
    records = [one.record for one in output_records(decode_step(encode_step(step)), {}) if one.topic == topic]
    for record in records:
        assert record.key == b"main"
        jsonschema.Draft202012Validator(json_schema(topic)).validate(json.loads(record.value))
        assert dict(record.headers)["ce_type"] == f"slotwise.{topic}.v1".encode()
    return [json.loads(record.value) for record in records]


def ids(step: Step) -> list[str]:
    """The ids of everything that a step publishes."""
    return [dict(one.record.headers)["ce_id"].decode() for one in output_records(step, {})]


def test_a_finished_task_says_what_its_work_came_to() -> None:
    """Decision, slot, model, cost, latency and quality of the work that ended it."""
    rig = RouterRig("haiku-1")
    (routed,) = rig.hand_in(task("a")).decisions
    rig.ends("a", "failure", cost_usd=0.5)
    (again,) = rig.decisions("a")[1:]
    step = rig.ends("a", cost_usd=0.25, latency_s=3.5, quality=0.75)
    assert said(step, TASK_FINISHED) == [
        {
            "task_id": "a",
            "pool": "main",
            "status": "success",
            "attempts": 2,
            "at": rig.at,
            "decision_id": again.decision_id,
            "slot_id": "haiku-1",
            "model": "haiku",
            "cost_usd": 0.25,
            "latency_s": 3.5,
            "quality": 0.75,
        }
    ]
    assert again.decision_id != routed.decision_id
    assert said(step, TASK_CANCELLED) == []


def test_a_failure_that_is_tried_again_is_no_end() -> None:
    """Only the last one is, with the sentence of its decision."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a", on_failure="drop"), task("b"))
    (end,) = said(rig.ends("a", "failure", error_class="tests_red"), TASK_FINISHED)
    assert (end["status"], end["attempts"], end["slot_id"], end["model"]) == ("dropped", 1, "haiku-1", "haiku")
    assert "tests_red" in end["reason"]
    assert said(rig.ends("b", "failure"), TASK_FINISHED) == []


def test_a_running_task_that_is_cancelled_is_to_stop_and_ends_with_its_slot() -> None:
    """One order is enough; what was spent is in the end all the same."""
    rig = RouterRig("haiku-1")
    (routed,) = rig.hand_in(task("a")).decisions
    step = rig.hand_in(cancelled("a"), cancelled("a"))
    (stop,) = said(step, TASK_CANCELLED)
    assert stop == {
        "task_id": "a",
        "pool": "main",
        "slot_id": "haiku-1",
        "lease": 1,
        "reason_code": "cancelled",
        "at": rig.at,
        "decision_id": routed.decision_id,
    }
    (end,) = said(rig.ends("a", cost_usd=0.125), TASK_FINISHED)
    assert (end["status"], end["cost_usd"], end["reason"]) == ("cancelled", 0.125, "Cancelled by ops while it ran.")


def test_a_lease_that_runs_out_stops_its_work() -> None:
    """On a retired slot it says so; a late success ends the task with the work that did it."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a", complexity="trivial"))
    (lost,) = said(rig.wait(301), TASK_CANCELLED)
    assert (lost["reason_code"], lost["slot_id"], lost["lease"]) == ("lease_lost", "haiku-1", 1)
    late = rig.hand_in(freed("haiku-1", 1, "a", at_ms=rig.now_ms))
    (end,) = said(late, TASK_FINISHED)
    assert (end["status"], end["attempts"], end["slot_id"], end["model"]) == ("success", 1, "haiku-1", "haiku")
    rig.hand_in(task("b", complexity="trivial"))
    rig.hand_in(retired("haiku-1"))
    (gone,) = said(rig.wait(301), TASK_CANCELLED)
    assert (gone["reason_code"], gone["lease"]) == ("slot_retired", 2)


def test_every_life_has_an_end_and_every_record_an_id_of_its_own() -> None:
    """Two lives that end in one step are two ends, each with its decision; no id is given twice, in whatever topic."""
    rig = RouterRig()
    rig.hand_in(task("a"))
    again = task("a", at_ms=START_MS + 2_000)
    step = rig.hand_in_timed([(1_000, cancelled("a")), (1_000, again), (1_000, cancelled("a"))])
    ends = said(step, TASK_FINISHED)
    assert [(one["status"], one["attempts"], one["reason"]) for one in ends] == [
        ("cancelled", 0, "Cancelled by ops.")
    ] * 2
    assert [one["decision_id"] for one in ends] == [one.decision_id for one in step.decisions]
    assert len(set(ids(step))) == len(ids(step)) == 4


def test_a_step_of_an_old_journal_announces_no_end() -> None:
    """It does not say enough, and these topics were not there."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    old = decode_step(encode_step(rig.ends("a")).replace(b'"ended"', b'"unknown_here"'))
    assert [one.topic for one in output_records(old, {})] == []
