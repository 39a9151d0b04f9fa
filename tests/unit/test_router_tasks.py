"""A task is accepted once, tried as often as the policy allows, ended for one reason, and given a cost estimate."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from schemas.events import TaskPending
from streams.core.policy.catalog import Catalog
from streams.core.policy.rulebook import Rulebook
from tests.support.builders import START_MS, cancelled, freed, retired, retried, rulebook, slot, task
from tests.support.percentiles import percentiles
from tests.support.router_rig import RouterRig, outcomes

DAY_S = 86_400


def ended(rig: RouterRig) -> dict[str, str]:
    """Give how each task ended in the last step."""
    return {one.task_id: one.what for one in rig.steps[-1].finished}


# Once.


@pytest.mark.rule("task.duplicate")
def test_a_task_that_comes_twice_is_accepted_once() -> None:
    """In one step, while it runs, and after it is done."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"), task("a"))
    rig.hand_in(task("a"))
    rig.ends("a")
    step = rig.hand_in(task("a"))
    assert (step.decisions, step.tasks) == ((), ())
    assert rig.count("duplicate_task") == 3
    assert len(rig.decisions("a")) == 1


@pytest.mark.rule("task.duplicate")
def test_of_two_different_tasks_with_one_id_the_first_wins() -> None:
    """The other one is counted."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a", title="first"), task("a", title="second"))
    assert rig.count("conflicting_task") == 1
    assert rig.router.state.pool("main").tasks["a"].task.title == "first"


@pytest.mark.rule("detail.27")
def test_a_finished_id_is_remembered_for_a_day() -> None:
    """After that the same id is another task."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.ends("a")
    rig.hand_in(task("a"), after_s=DAY_S)
    assert rig.count("duplicate_task") == 1
    assert outcomes(rig.hand_in(task("a"), after_s=0.001)) == {"a": "haiku-1"}


def test_the_same_id_in_another_pool_is_another_task() -> None:
    """Each pool counts for itself."""
    rig = RouterRig("haiku-1")
    rig.hand_in(slot(pool="side"))
    step = rig.hand_in(task("a"), task("a", pool="side"))
    assert [one.chosen_slot_id for one in step.decisions] == ["haiku-1", "haiku-1"]


# Cancels.


@pytest.mark.rule("end.cancelled", "reason.cancelled")
def test_a_cancel_ends_a_wait() -> None:
    """With a decision of its own that says by whom."""
    rig = RouterRig()
    rig.hand_in(task("a"))
    (said,) = rig.hand_in(cancelled("a")).decisions
    assert (said.outcome, said.reason_code, said.reason) == ("cancelled", "cancelled", "Cancelled by ops.")
    assert ended(rig) == {"a": "cancelled"}


def test_a_cancelled_task_does_not_get_the_slot_that_came_with_the_cancel() -> None:
    """One step, whatever the order."""
    rig = RouterRig()
    rig.hand_in(task("a"))
    step = rig.hand_in(slot(), cancelled("a"))
    assert outcomes(step) == {"a": "cancelled"}


ENDS_OF_CANCELLED = ("success", "failure", "cancelled")


@pytest.mark.rule("end.cancelled")
@pytest.mark.parametrize("status", ENDS_OF_CANCELLED)
def test_a_cancelled_task_keeps_its_slot_until_that_is_freed(status: str) -> None:
    """The outcome settles money; it is no retry, whatever it is."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    assert rig.hand_in(cancelled("a")).decisions == ()
    assert outcomes(rig.hand_in(task("b"))) == {"b": "capable_busy"}
    step = rig.ends("a", status)
    assert ended(rig) == {"a": "cancelled"}
    assert len(step.work) == 1
    assert rig.runs_on("b") == "haiku-1"


def test_a_cancelled_task_whose_lease_runs_out_is_over() -> None:
    """It is not tried again."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.hand_in(cancelled("a"))
    rig.wait(1_800)
    assert ended(rig) == {"a": "cancelled"}


@pytest.mark.rule("control.task.cancelled")
def test_a_cancel_may_come_before_its_task() -> None:
    """It is remembered and applied on arrival; the next of that id is a duplicate."""
    rig = RouterRig("haiku-1")
    rig.hand_in(cancelled("a"))
    assert outcomes(rig.hand_in(task("a"))) == {"a": "cancelled"}
    assert rig.hand_in(task("a")).counts == {"duplicate_task": 1}


@pytest.mark.rule("detail.24")
@pytest.mark.parametrize(("after_s", "want"), [(DAY_S, "cancelled"), (DAY_S + 0.001, "haiku-1")])
def test_a_cancel_is_remembered_for_a_day(after_s: float, want: str) -> None:
    """After a day the cancel is forgotten."""
    rig = RouterRig("haiku-1")
    rig.hand_in(cancelled("a"))
    assert outcomes(rig.hand_in(task("a"), after_s=after_s)) == {"a": want}


def test_a_cancel_after_the_end_is_counted() -> None:
    """It is not kept for a later task of that id."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.ends("a")
    step = rig.hand_in(cancelled("a"))
    assert step.counts == {"late_cancel": 1}
    assert step.cancels == ()


def test_an_operator_event_counts_once() -> None:
    """A redelivered cancel does not cancel what came later."""
    rig = RouterRig("haiku-1")
    rig.hand_in(cancelled("a", control_id="same"))
    rig.hand_in(cancelled("b", control_id="same"))
    assert rig.count("duplicate_control") == 1
    assert outcomes(rig.hand_in(task("b"))) == {"b": "haiku-1"}


# Times.


@pytest.mark.rule("detail.25")
@pytest.mark.parametrize("deadline_ms", [START_MS - 1, START_MS])
def test_a_deadline_that_is_past_expires_the_task_at_once(deadline_ms: int) -> None:
    """It expires even if a slot is free."""
    rig = RouterRig("haiku-1")
    (said,) = rig.hand_in(task("a", deadline_ms=deadline_ms)).decisions
    assert (said.outcome, said.reason_code) == ("expired", "expired")
    assert ended(rig) == {"a": "expired"}


@pytest.mark.rule("end.expired", "reason.expired")
def test_a_deadline_ends_a_wait_on_the_millisecond() -> None:
    """The router knows beforehand when that is."""
    rig = RouterRig()
    rig.hand_in(task("a", deadline_ms=START_MS + 5_000))
    assert rig.router.due_ms() == START_MS + 5_000
    assert rig.wait(4.999).decisions == ()
    assert outcomes(rig.wait(0.001)) == {"a": "expired"}


def test_a_slot_that_comes_at_the_deadline_comes_too_late() -> None:
    """What fell due by then happens before."""
    rig = RouterRig()
    rig.hand_in(task("a", deadline_ms=START_MS + 5_000))
    assert outcomes(rig.hand_in(slot(), after_s=5)) == {"a": "expired"}


@pytest.mark.rule("end.expired")
def test_a_deadline_does_not_touch_a_running_task() -> None:
    """It did not wait when it passed."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a", deadline_ms=START_MS + 5_000))
    assert rig.wait(60).decisions == ()
    rig.ends("a")
    assert ended(rig) == {"a": "done"}


def test_a_deadline_holds_for_a_later_attempt() -> None:
    """Failed before it and busy then: expired at the deadline; failed after it: at once."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("before", deadline_ms=START_MS + 10_000))
    end = rig.end_of("before", "failure")
    rig.hand_in(retired("haiku-1"))
    rig.hand_in(end, after_s=5)
    assert outcomes(rig.wait(5)) == {"before": "expired"}
    rig = RouterRig("haiku-1")
    rig.hand_in(task("after", deadline_ms=START_MS + 10_000))
    assert outcomes(rig.ends("after", "failure", after_s=10)) == {"after": "expired"}


def test_a_deadline_holds_within_a_step() -> None:
    """Failed before it and a slot after it, in one batch: what fell due between the two happens between them."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a", deadline_ms=START_MS + 10_000))
    end = rig.end_of("a", "failure")
    step = rig.hand_in_timed([(0, retired("haiku-1")), (5_000, end), (20_000, slot())])
    assert outcomes(step) == {"a": "expired"}


@pytest.mark.rule("wait.not_before")
def test_a_delayed_task_sends_no_event_until_it_is_due() -> None:
    """Then it is decided; ageing counts from there, and so does its wait."""
    rig = RouterRig()
    step = rig.hand_in(task("later", not_before_ms=START_MS + 60_000))
    assert step.decisions == ()
    assert rig.router.due_ms() == START_MS + 60_000
    assert rig.wait(59.999).decisions == ()
    (said,) = rig.wait(0.001).decisions
    assert (said.reason_code, said.waiting_since_ms) == ("no_capable_model", START_MS + 60_000)
    status = rig.status("later")
    assert status is not None
    assert status.since_ms == START_MS + 60_000


def test_not_before_a_moment_that_is_past_holds_nothing() -> None:
    """A `not_before` of now or earlier does not delay."""
    rig = RouterRig("haiku-1", "haiku-2")
    step = rig.hand_in(task("a", not_before_ms=START_MS - 1), task("b", not_before_ms=START_MS))
    assert outcomes(step) == {"a": "haiku-1", "b": "haiku-2"}


def test_a_delayed_task_may_be_cancelled_or_expire() -> None:
    """A delayed task ends without an announcement of a wait."""
    rig = RouterRig()
    later: dict[str, Any] = {"not_before_ms": START_MS + 60_000}
    rig.hand_in(task("a", **later), task("b", deadline_ms=START_MS + 1_000, **later))
    assert outcomes(rig.hand_in(cancelled("a"))) == {"a": "cancelled"}
    assert outcomes(rig.wait(1)) == {"b": "expired"}


# Failures.


@pytest.mark.rule("attempts.retry")
def test_a_failed_task_is_tried_again() -> None:
    """That is the default; its wait starts again, and its attempt grows by one."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a", attempt=3))
    (said,) = rig.ends("a", "failure", after_s=60).decisions
    assert (said.outcome, said.attempt, said.waiting_since_ms) == ("routed", 4, rig.now_ms)


def test_a_cancelled_outcome_ends_a_task() -> None:
    """Its slot reports that the work was cancelled there."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.ends("a", "cancelled")
    assert ended(rig) == {"a": "cancelled"}


@pytest.mark.rule("end.dropped", "reason.dropped")
def test_drop_ends_a_task_that_failed() -> None:
    """With a decision that names the error class."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a", on_failure="drop"))
    (said,) = rig.ends("a", "failure", error_class="invalid_answer").decisions
    assert said.outcome == "dropped"
    assert "invalid_answer" in said.reason
    assert ended(rig) == {"a": "dropped"}


@pytest.mark.rule("detail.26")
def test_drop_concerns_reported_failures_only() -> None:
    """After a lost lease or a restart it is tried again."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a", on_failure="drop"))
    rig.wait(1_800)
    rig.hand_in(slot(at_ms=rig.now_ms))
    assert rig.runs_on("a") == "haiku-1"
    rig.hand_in(slot(at_ms=rig.now_ms + 1_000), after_s=1)
    status = rig.status("a")
    assert status is not None
    assert status.attempt == 3


@pytest.mark.rule("outcome.escalate")
def test_escalate_goes_one_tier_above_the_one_that_ran() -> None:
    """Two times; a failure at tier 3 is the last."""
    rig = RouterRig("haiku-1", "haiku-2", "sonnet-1", "sonnet-2", "opus-1", "opus-2")
    rig.hand_in(task("a", on_failure="escalate"))
    ran = [rig.runs_on("a")]
    for _ in range(2):
        rig.ends("a", "failure")
        ran.append(rig.runs_on("a"))
    assert [str(slot_id)[:-2] for slot_id in ran] == ["haiku", "sonnet", "opus"]
    (said,) = rig.ends("a", "failure").decisions
    assert said.outcome == "dead_lettered"
    assert len(rig.steps[-1].dead) == 1


def test_escalate_stops_at_the_tasks_own_highest_tier() -> None:
    """There is no higher tier that it may use."""
    rig = RouterRig("haiku-1", "sonnet-1", "opus-1")
    rig.hand_in(task("a", on_failure="escalate", max_tier=1))
    assert outcomes(rig.ends("a", "failure")) == {"a": "dead_lettered"}


def test_an_escalated_task_waits_for_the_higher_tier() -> None:
    """The cheaper slot is free and below its floor now."""
    rig = RouterRig("haiku-1", "sonnet-1")
    rig.hand_in(task("other", floor_model="sonnet"), task("a", on_failure="escalate"))
    (said,) = rig.ends("a", "failure").decisions
    assert json.loads(bytes(said.alternatives)) == {
        "sonnet": {"gate": "busy", "score": 1.0},
        "haiku": {"gate": "floor"},
    }


@pytest.mark.rule("attempts.bound", "end.dead_lettered", "reason.dead_lettered")
def test_attempts_are_bounded_and_the_dead_letter_has_the_history() -> None:
    """Failures, restarts and lost leases count alike; the fifth is the last."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.ends("a", "failure", after_s=1)
    rig.hand_in(slot(at_ms=rig.now_ms + 1_000), after_s=1)
    rig.wait(1_800)
    rig.hand_in(slot(at_ms=rig.now_ms))
    rig.ends("a", "failure", after_s=1)
    assert rig.runs_on("a") == "haiku-1"
    (said,) = rig.ends("a", "failure", after_s=1).decisions
    assert (said.outcome, said.attempt) == ("dead_lettered", 5)
    assert "5 failed attempts" in said.reason
    (row,) = rig.steps[-1].dead
    assert row.task == task("a")
    told = [moment.what for moment in row.status.history]
    assert told.count("routed") == 5
    assert [what for what in told if what not in {"accepted", "routed", "waits"}] == [
        "failed", "slot restarted", "lease ran out", "failed", "failed",
    ]  # fmt: skip
    assert ended(rig) == {"a": "dead_lettered"}


@pytest.mark.rule("policy.attempts")
def test_the_bound_of_attempts_and_the_pause_between_them_are_policy() -> None:
    """With a back-off the task is delayed, and its slot takes another."""
    rig = RouterRig("haiku-1", book=rulebook(attempts={"failures_max": 2, "back_off_s": 30.0}))
    rig.hand_in(task("a"), task("b"))
    assert outcomes(rig.ends("a", "failure")) == {"b": "haiku-1"}
    assert rig.router.due_ms() == START_MS + 30_000
    rig.ends("b")
    assert outcomes(rig.wait(30)) == {"a": "haiku-1"}
    assert outcomes(rig.ends("a", "failure")) == {"a": "dead_lettered"}


# Refusals.


class Refused(NamedTuple):
    """A task that nothing could ever do, and why."""

    task: TaskPending
    want: str


REFUSED = {
    "an unknown floor": Refused(
        task(floor_model="opsu"), "floor_model opsu is not in the catalogue. Did you mean opus?"
    ),
    "a floor above max_tier": Refused(
        task(floor_model="sonnet", max_tier=1), "floor_model sonnet is of tier 2, above max_tier 1"
    ),
}


@pytest.mark.rule("detail.16")
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_a_task_that_contradicts_itself_is_refused(case: Refused) -> None:
    """It is no task, no sample and no duplicate later."""
    rig = RouterRig("haiku-1")
    step = rig.hand_in(replace(case.task, ev=3.0))
    (refusal,) = step.rejected
    assert refusal.reason.startswith(case.want)
    assert (step.decisions, step.tasks, step.evs) == ((), (), ())
    assert outcomes(rig.hand_in(task())) == {"t-1": "haiku-1"}


class Gated(NamedTuple):
    """A task, the fleet and what each model's verdict is."""

    task: TaskPending
    want: dict[str, str]


GATED = {
    "every rating counts": Gated(
        task(requires={"coding": 5, "safety": 9}), {"opus": "ok", "sonnet": "chosen", "codex": "capability"}
    ),
    "a rating equal to its bar is enough": Gated(
        task(requires={"safety": 8}), {"opus": "ok", "sonnet": "chosen", "codex": "ok"}
    ),
    "a bar of 0 asks for nothing": Gated(
        task(requires={"coding": 0}), {"opus": "ok", "sonnet": "chosen", "codex": "ok"}
    ),
    "what fits exactly fits": Gated(task(input_tokens=272_000), {"opus": "ok", "sonnet": "ok", "codex": "chosen"}),
    "a token more does not": Gated(task(input_tokens=272_001), {"opus": "ok", "sonnet": "chosen", "codex": "context"}),
    "a long answer has room beside the longest input": Gated(
        task(input_tokens=265_000, complexity="complex"), {"opus": "ok", "sonnet": "ok", "codex": "chosen"}
    ),
    "only these providers": Gated(
        task(allow_providers=("openai",)), {"opus": "boundary", "sonnet": "boundary", "codex": "chosen"}
    ),
    "never these providers": Gated(
        task(deny_providers=("openai",)), {"opus": "ok", "sonnet": "chosen", "codex": "boundary"}
    ),
    "a provider on both lists": Gated(
        task(allow_providers=("openai",), deny_providers=("openai",)),
        {"opus": "boundary", "sonnet": "boundary", "codex": "boundary"},
    ),
    "a highest tier": Gated(task(max_tier=2), {"opus": "boundary", "sonnet": "chosen", "codex": "ok"}),
    "a floor is a tier, not a model": Gated(
        task(floor_model="sonnet"), {"opus": "ok", "sonnet": "chosen", "codex": "ok"}
    ),
    "a class sets a floor": Gated(task(complexity="expert"), {"opus": "chosen", "sonnet": "floor", "codex": "floor"}),
    "the first gate that refuses is the verdict": Gated(
        task(requires={"coding": 9}, complexity="expert", deny_providers=("anthropic", "openai")),
        {"opus": "boundary", "sonnet": "capability", "codex": "boundary"},
    ),
    "local only": Gated(task(local_only=True), {"opus": "boundary", "sonnet": "boundary", "codex": "boundary"}),
}


@pytest.mark.rule("gate.capability", "gate.boundary")
@pytest.mark.parametrize("case", GATED.values(), ids=GATED.keys())
def test_every_model_has_its_verdict(case: Gated) -> None:
    """Opus, sonnet and codex are free."""
    rig = RouterRig("opus-1", "sonnet-1", "codex-1")
    (said,) = rig.hand_in(case.task).decisions
    assert {model: verdict["gate"] for model, verdict in json.loads(bytes(said.alternatives)).items()} == case.want


# Tokens and money.


class Sized(NamedTuple):
    """What a task says of its answer, and how long that may be."""

    task: TaskPending
    want_max_tokens: int


SIZED = {
    "nothing said": Sized(task(), 8_192),
    "an estimate": Sized(task(output_tokens=1_001), 1_501),
    "an estimate of 0": Sized(task(output_tokens=0), 1),
    "trivial": Sized(task(complexity="trivial"), 1_024),
    "simple": Sized(task(complexity="simple"), 2_048),
    "a class before an estimate": Sized(task(complexity="simple", output_tokens=50_000), 2_048),
    "more than the model can": Sized(task(output_tokens=60_000), 65_536),
}


@pytest.mark.rule("detail.15")
@pytest.mark.parametrize("case", SIZED.values(), ids=SIZED.keys())
def test_an_answer_has_a_limit(case: Sized) -> None:
    """By class, else by estimate with headroom, else the policy's; never above the model's own."""
    (said,) = RouterRig("gemini-flash-1").hand_in(case.task).decisions
    assert said.max_tokens == case.want_max_tokens


class Priced(NamedTuple):
    """A task on a fleet, what it costs in micro-dollars, and what that saves."""

    task: TaskPending
    slots: tuple[str, ...]
    want_cost: int | None
    want_vs_premium: int | None
    want_vs_next_free: int | None
    without_price: str = ""


TOKENS: dict[str, Any] = {"input_tokens": 1_000, "output_tokens": 100}
PRICED = {
    "haiku alone": Priced(task(**TOKENS), ("haiku-1",), 150, 5_850, 0),
    "opus was free longer": Priced(task(**TOKENS), ("opus-1", "haiku-1"), 150, 5_850, 5_850),
    "haiku was free longer": Priced(task(**TOKENS), ("haiku-1", "opus-1"), 150, 5_850, 0),
    "what cannot do it is no comparison": Priced(
        task(requires={"coding": 8}, **TOKENS), ("haiku-1", "sonnet-1"), 3_000, 3_000, 0
    ),
    "the limit where no estimate is given": Priced(task(input_tokens=1_000), ("haiku-1",), 4_196, 167_840 - 4_196, 0),
    "an estimate above the limit": Priced(
        task(complexity="trivial", output_tokens=5_000), ("haiku-1",), 512, 20_480 - 512, 0
    ),
    "an unknown price is not 0": Priced(task(**TOKENS), ("haiku-1",), None, None, None, "haiku"),
    "an unknown price to compare with": Priced(task(**TOKENS), ("opus-1", "haiku-1"), 150, None, None, "opus"),
}


@pytest.mark.rule("money.estimate", "money.savings")
@pytest.mark.parametrize("case", PRICED.values(), ids=PRICED.keys())
def test_a_decision_says_what_it_costs_and_saves(case: Priced) -> None:
    """Against opus for everything, and against the slot that had been free longest."""
    book = rulebook()
    models = [
        replace(model, input_usd_per_mtok=None) if model.id == case.without_price else model
        for model in book.catalog.model
    ]
    rig = RouterRig(book=Rulebook(Catalog(model=tuple(models)), book.policy))
    for name in case.slots:
        rig.hand_in(slot(name), after_s=1)
    (said,) = rig.hand_in(case.task, after_s=1).decisions
    assert said.estimated_cost_uusd == case.want_cost
    assert said.saved_vs_premium_uusd == case.want_vs_premium
    assert said.saved_vs_next_free_uusd == case.want_vs_next_free


@pytest.mark.rule("decision.propensity")
def test_a_decision_carries_what_the_task_says_of_itself() -> None:
    """Reports group by it."""
    own: dict[str, Any] = {
        "layer": "growth", "lane": "mail", "agent_role": "writer", "task_type": "email", "tenant_id": "acme",
        "complexity": "simple", "objective": "quality",
    }  # fmt: skip
    (said,) = RouterRig("haiku-1").hand_in(task(**own)).decisions
    assert {name: getattr(said, name) for name in own} == own
    assert (said.tier, said.propensity, said.strategy) == (1, 1.0, "cheapest_capable")
    assert (said.input_topic, said.input_offset) == ("task.pending", 0)


def test_a_decision_names_the_last_record_where_its_task_came_earlier() -> None:
    """A slot that is free again is what brought it about."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"), task("b"))
    (said,) = rig.ends("a").decisions
    assert (said.task_id, said.input_topic, said.input_offset) == ("b", "slot.freed", 1)


def test_a_dead_letter_has_verdicts_too() -> None:
    """Those of the moment in which it was given up."""
    rig = RouterRig("opus-1", "haiku-1", book=rulebook(attempts={"failures_max": 1}))
    percentiles(rig, 5.0, 5.0, 5.0, 5.0, 5.0)
    rig.hand_in(task("a"))
    (said,) = rig.hand_in(freed("haiku-1", 1, "a", "failure")).decisions
    assert json.loads(bytes(said.alternatives)) == {"opus": {"gate": "premium"}, "haiku": {"gate": "busy"}}


@pytest.mark.rule("control.task.retried")
def test_a_cancel_that_came_before_its_task_is_taken_back_by_an_order_to_run_it() -> None:
    """Then the task is done when it comes; an order about a task of which nothing is known is only counted."""
    rig = RouterRig("haiku-1")
    rig.hand_in(cancelled("a"))
    assert rig.hand_in(retried("a")).counts == {"retried_task": 1}
    assert [one.outcome for one in rig.hand_in(task("a")).decisions] == ["routed"]
    assert rig.hand_in(retried("unheard")).counts == {"unknown_retry": 1}


def test_a_task_that_lives_is_not_run_again() -> None:
    """The order is refused with where the task stands, and nothing changes."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.hand_in(task("b"))
    for task_id, where in (("a", "running on haiku-1"), ("b", "waiting")):
        step = rig.hand_in(retried(task_id))
        says = f"task {task_id} is {where}: only a task that has ended is run again."
        assert ([one.reason for one in step.rejected], step.retried, step.decisions) == ([says], (), ())


def test_a_task_is_run_again_in_the_step_in_which_it_ends() -> None:
    """Whatever stands before and behind the order in the step, the last end is the one that counts."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    ended = freed("haiku-1", 1, "a")
    step = rig.hand_in(ended, retried("a"), task("a"))
    assert step.retried == (("main", "a"),)
    assert [one.what for one in step.finished] == ["done"]
    assert [(one.outcome, one.attempt, one.lease) for one in step.decisions] == [("routed", 1, 2)]
    assert rig.hand_in(task("a")).counts == {"duplicate_task": 1}

    step = rig.hand_in(cancelled("b"), retried("b"), task("b"), cancelled("b"))
    assert (step.retried, [one.what for one in step.finished]) == ((), ["cancelled"])
    assert rig.hand_in(task("b")).counts == {"duplicate_task": 1}
