"""A task that ended without success is done again when it is sent again; what is ignored instead can be seen."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from schemas.decision import Duplicate, Step
from schemas.steps import encode_step
from schemas.vocabulary import TASK_FINISHED, Millis
from streams.audit.journal import JournalAudit
from streams.core.router import Router
from streams.partition.outputs import output_records
from streams.views.journal_stats import JournalStats
from streams.views.overview import RecoveredPartition, overview
from tests.support.builders import START_MS, cancelled, rulebook, slot, task
from tests.support.router_rig import RouterRig, outcomes, picture

ENDS = ("dead_lettered", "expired", "cancelled", "cancelled while it runs", "dropped")


def ended(how: str) -> RouterRig:
    """Give a rig in which task `a` has ended so at START + 1 s."""
    rig = RouterRig("haiku-1", book=rulebook(attempts={"failures_max": 1}))
    if how in ("expired", "cancelled"):
        rig.hand_in(task("first"))
    on_failure = "drop" if how == "dropped" else "retry"
    rig.hand_in(task("a", on_failure=on_failure, deadline_ms=START_MS + 1_000 if how == "expired" else None))
    if "cancelled" in how:
        rig.hand_in(cancelled("a"), after_s=1 if how == "cancelled" else 0)
    if how in ("dead_lettered", "dropped", "cancelled while it runs"):
        rig.ends("a", "failure", after_s=1)
    elif how == "expired":
        rig.wait(1)
    if how in ("expired", "cancelled"):
        rig.ends("first")
    assert rig.status("a") is None
    assert rig.now_ms == START_MS + 1_000
    return rig


@pytest.mark.rule("amend.33")
@pytest.mark.parametrize("how", ENDS)
def test_a_task_that_ended_without_success_is_done_again_when_it_is_sent_again(how: str) -> None:
    """With an `at` after its end; the attempts of its first life do not count."""
    rig = ended(how)
    for at_ms in (0, 999, 1_000):
        step = rig.hand_in(task("a", at_ms=START_MS + at_ms), after_s=1)
        assert (step.counts, step.decisions) == ({"duplicate_task": 1}, ())
    step = rig.hand_in(task("a", at_ms=START_MS + 1_001), after_s=1)
    assert step.counts == {"redriven_task": 1}
    assert outcomes(step) == {"a": "haiku-1"}
    assert step.decisions[0].attempt == 1
    assert [entry.what for entry in rig.router.state.pool("main").tasks["a"].status.history] == ["accepted", "routed"]
    rig.ends("a", after_s=1)
    step = rig.hand_in(task("a", at_ms=rig.now_ms + 5_000), after_s=9)
    assert step.duplicates == (Duplicate("main", "a", Millis(rig.now_ms), "done", Millis(rig.now_ms - 9_000)),)


@pytest.mark.rule("amend.33")
def test_the_event_of_before_is_a_duplicate_though_its_clock_is_ahead() -> None:
    """An `at` after now counts as now; the same record delivered again after the end is no new life."""
    rig = RouterRig()
    event = task("a", at_ms=START_MS + 60_000)
    rig.hand_in(event)
    rig.hand_in(cancelled("a"), after_s=1)
    assert rig.hand_in(event, after_s=1).counts == {"duplicate_task": 1}
    assert rig.hand_in(event, after_s=3_600).counts == {"duplicate_task": 1}
    assert outcomes(rig.hand_in(task("a", at_ms=rig.now_ms))) == {"a": "no_capable_model"}


@pytest.mark.rule("amend.33")
def test_a_deadline_of_the_life_before_does_not_end_the_new_one() -> None:
    """Both are the first attempt of that id; each has its own deadline, also after a restart."""
    rig = RouterRig()
    rig.hand_in(task("a", deadline_ms=START_MS + 60_000))
    rig.hand_in(cancelled("a"), after_s=1)
    rig.hand_in(task("a", at_ms=START_MS + 2_000, deadline_ms=START_MS + 90_000), after_s=1)
    assert rig.router.due_ms() == START_MS + 90_000
    assert rig.wait(60).decisions == ()
    assert outcomes(rig.wait(28)) == {"a": "expired"}


@pytest.mark.rule("amend.33")
@pytest.mark.parametrize(("at_s", "want"), [(3, "cancelled"), (4, "cancelled"), (5, "no_capable_model")])
def test_a_cancel_after_the_end_is_of_a_life_that_was_sent_before_it(at_s: int, want: str) -> None:
    """It came first, as topics have no common order; one that is sent after the cancel is wanted."""
    rig = RouterRig()
    rig.hand_in(task("a"))
    rig.hand_in(cancelled("a"), after_s=1)
    assert rig.hand_in(cancelled("a"), after_s=3).counts == {"late_cancel": 1}
    assert outcomes(rig.hand_in(task("a", at_ms=START_MS + at_s * 1_000), after_s=6)) == {"a": want}


def lives(rig: RouterRig) -> Step:
    """Three lives of one task in one step: two are cancelled, the last one goes on."""
    rig.hand_in(task("a"))
    again = [task("a", at_ms=START_MS + ms) for ms in (2_000, 4_000)]
    return rig.hand_in_timed(
        [(1_000, cancelled("a")), (1_000, again[0]), (1_000, cancelled("a")), (1_000, replace(again[1], ev=7.0))]
    )


@pytest.mark.rule("amend.33")
def test_lives_of_one_step_have_a_decision_each() -> None:
    """With ids of their own; what was asked and where it came from is that of the life."""
    rig = RouterRig()
    step = lives(rig)
    told = [(one.outcome, one.at_ms - START_MS, one.ev) for one in step.decisions]
    assert told == [("cancelled", 0, None), ("cancelled", 2_000, None), ("waiting", 4_000, 7.0)]
    assert len({one.decision_id for one in step.decisions}) == 3
    (row,) = step.tasks
    assert (row.task.ev, row.status.state) == (7.0, "waiting")
    assert [one.what for one in step.finished] == ["cancelled"]
    assert {one.record.headers[1] for one in output_records(step, {}) if one.topic != TASK_FINISHED} == {
        ("ce_id", one.decision_id.encode()) for one in step.decisions
    }
    rig.hand_in(slot("haiku-1", at_ms=rig.now_ms))
    assert rig.runs_on("a") == "haiku-1"


def test_a_new_life_is_counted_as_a_live_task() -> None:
    """Though its step names an end of the same id."""
    rig, stats = RouterRig(), JournalStats()
    lives(rig)
    for step in rig.steps:
        stats.add(step)
    assert (stats.live_tasks, stats.status) == (1, {"waiting": 1})


@pytest.mark.rule("amend.33")
def test_the_auditor_knows_a_new_life_from_a_finished_task_that_is_accepted_again() -> None:
    """It shares no code with the router: an end with success, or an `at` from before the end, is reported."""
    for what, at_ms, want in (("cancelled", 2_000, 0), ("done", 2_000, 1), ("cancelled", 1_000, 1)):
        rig = RouterRig()
        rig.hand_in(task("a"))
        rig.hand_in(cancelled("a"), after_s=1)
        rig.hand_in(task("a", at_ms=START_MS + 2_000), after_s=1)
        audit = JournalAudit(0, memory_ms=86_400_000)
        for step in rig.steps:
            said = json.loads(encode_step(step))
            for row in said.get("finished", ()):
                row["what"] = what
            for row in said.get("tasks", ()):
                row["at_ms"] = min(row["at_ms"], START_MS + at_ms)
            audit.add(json.dumps(said).encode())
        assert len(audit.problems) == want


@pytest.mark.rule("amend.33")
def test_what_was_ignored_is_counted_by_pool_for_operators() -> None:
    """Of finished tasks only, also after a restart; `slotwise check` names the pool."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.hand_in(task("a"))
    rig.ends("a")
    rig.hand_in(task("a"), task("a"), task("b", pool="side"), cancelled("b", pool="side"))
    rig.hand_in(task("b", pool="side"))
    router = Router.restore(0, rig.book, picture(rig.router))
    pools = {one.pool: one.duplicates for one in overview({0: RecoveredPartition(router=router)}, Millis(0)).pools}
    assert pools == {"main": 2}
    assert router.state.pool("side").duplicates == 1
