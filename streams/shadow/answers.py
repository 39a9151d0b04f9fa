"""The answers of both sides about a task, and in what they differ."""

from __future__ import annotations

from msgspec import Struct

from schemas.decision import Decision, Step, TaskRow
from schemas.shadow import Answer, DifferenceKind, ShadowDifference
from streams.core.policy.rulebook import Rulebook


class Answers(Struct, frozen=True):
    """What both sides answer about a task."""

    live: Answer
    shadow: Answer


#: Nothing is said of the task: it is delayed, runs, or is unknown.
NOTHING = Answer()


def answer_of(decision: Decision) -> Answer:
    """Return what a decision answers."""
    return Answer(
        outcome=decision.outcome,
        reason_code=decision.reason_code,
        reason=decision.reason,
        slot_id=decision.chosen_slot_id,
        model=decision.chosen_model,
        tier=decision.tier,
        complexity=decision.complexity,
        estimated_cost_uusd=decision.estimated_cost_uusd,
        max_tokens=decision.max_tokens,
        lease_expires_at_ms=decision.lease_expires_at_ms,
    )


def answer_before(row: TaskRow | None) -> Answer:
    """Return the answer that holds where a side decides nothing: it waits as announced, or nothing is said."""
    if row is None or row.status.state != "waiting" or row.status.headline is None:
        return NOTHING
    return Answer(outcome="waiting", reason_code=row.status.headline)


def kind_of(live: Answer, shadow: Answer) -> DifferenceKind | None:
    """Return the weightiest way in which two answers differ; None: they agree."""
    if live.outcome != shadow.outcome:
        if shadow.outcome == "routed" and live.outcome == "waiting":
            return "routes_instead"
        if live.outcome == "routed" and shadow.outcome == "waiting":
            return "waits_instead"
        return "ends_otherwise"
    if live.model != shadow.model:
        return "other_model"
    if live.slot_id != shadow.slot_id:
        return "other_slot"
    # Who waits as before has said its class then.
    if live.complexity != shadow.complexity and live.reason and shadow.reason:
        return "other_class"
    if live.reason_code != shadow.reason_code:
        return "other_reason"
    return "other_terms" if _terms(live) != _terms(shadow) else None


def difference(
    step: Step,
    decision: Decision,
    kind: DifferenceKind,
    answers: Answers,
    *,
    difference_id: str,
    run: str,
    name: str,
    rulebook: Rulebook,
) -> ShadowDifference:
    """Return the row of a run that says how a shadow of that name and rulebook differs from a live step about a task.

    `decision` is that of one side; where both have one, they have the same task, attempt and EV.
    """
    return ShadowDifference(
        difference_id=difference_id,
        run=run,
        name=name,
        kind=kind,
        partition=step.partition,
        seq=step.seq,
        decided_at_ms=decision.decided_at_ms,
        pool=decision.pool,
        task_id=decision.task_id,
        attempt=decision.attempt,
        priority=decision.priority,
        title=decision.title,
        ev=decision.ev,
        layer=decision.layer,
        lane=decision.lane,
        tenant_id=decision.tenant_id,
        task_type=decision.task_type,
        policy=rulebook.policy_hash,
        catalog=rulebook.catalog_hash,
        live_policy=step.policy,
        live_catalog=step.catalog,
        live=answers.live,
        shadow=answers.shadow,
    )


def same(one: Answer, other: Answer) -> bool:
    """Whether two answers of one side say the same: a slot more or less of the same model is no news."""
    return (one.outcome, one.model, one.reason_code) == (other.outcome, other.model, other.reason_code)


def _terms(answer: Answer) -> tuple[int | None, int | None, int | None]:
    return answer.estimated_cost_uusd, answer.max_tokens, answer.lease_expires_at_ms
