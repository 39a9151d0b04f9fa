"""The records that a journaled step sends to the outside: what became of tasks and work, and dead letters. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from schemas.codec import encode_event, write_event
from schemas.dead_letters import DeadTask, dead_letter_headers
from schemas.decision import Decision, Step, WorkDone
from schemas.ends import Ended, Stopped
from schemas.events import TaskAwaitSlot, TaskFinished, TaskRouted, WorkCancelled
from schemas.record import Record
from schemas.vocabulary import (
    TASK_AWAIT_SLOT,
    TASK_CANCELLED,
    TASK_FINISHED,
    TASK_PENDING,
    TASK_ROUTED,
    Millis,
    Verdict,
    from_millis,
)
from streams.partition.ports import SOURCE
from streams.partition.task_events import TaskEvents


class Outgoing(NamedTuple):
    """A record and the topic (its bare name) that it goes to."""

    topic: str
    record: Record


class _Alternative(Struct, frozen=True):
    """What an alternative says of one model, as far as it is published."""

    gate: Verdict


_ALTERNATIVES = msgspec.json.Decoder(dict[str, _Alternative])
#: Decisions of one step share their moments, and those of one shape their alternatives.
_moment = lru_cache(maxsize=4096)(from_millis)


@lru_cache(maxsize=1024)
def _verdicts(alternatives: bytes) -> dict[str, Verdict]:
    return {model: one.gate for model, one in _ALTERNATIVES.decode(alternatives).items()}


def output_records(step: Step, events: TaskEvents) -> Iterator[Outgoing]:
    """Give everything that a step announces, in order; `events` are those of the tasks that it routes or gives up."""
    for stopped in step.stopped:
        # A lease can be lost, taken up and lost again.
        ce_id = f"{stopped.decision_id or stopped.task_id}:{stopped.reason_code}:{stopped.at_ms}"
        yield _outgoing(TASK_CANCELLED, work_cancelled(stopped), ce_id, stopped, stopped.at_ms)
    for decision in step.decisions:
        topic = TASK_ROUTED if decision.outcome == "routed" else TASK_AWAIT_SLOT
        event = task_routed(decision, step, events) if decision.outcome == "routed" else _await_slot(decision, step)
        yield _outgoing(topic, event, decision.decision_id, decision, decision.decided_at_ms)
    for ended, finished in tasks_finished(step):
        ce_id = f"{finished.decision_id or ended.task_id}:finished:{step.seq}"
        yield _outgoing(TASK_FINISHED, finished, ce_id, ended, ended.at_ms)
    ends = {
        (decision.pool, decision.task_id): decision
        for decision in step.decisions
        if decision.outcome == "dead_lettered"
    }
    for row in step.dead:
        end = ends.get((row.task.pool, row.task.task_id))
        headers = dead_letter_headers(
            TASK_PENDING if end is None else end.input_topic,
            step.partition,
            -1 if end is None else end.input_offset,
            "The task failed its last attempt." if end is None else end.reason,
            attempt=row.status.attempt,
        )
        task = events.get((row.task.pool, row.task.task_id, row.accepted_seq), row.task)
        value = msgspec.json.encode(DeadTask(task=Raw(encode_event(task)), history=row.status.history))
        yield Outgoing(f"{TASK_PENDING}.dlq", Record(key=row.task.pool.encode(), value=value, headers=headers))


def _outgoing(
    topic: str,
    event: TaskRouted | TaskAwaitSlot | WorkCancelled | TaskFinished,
    ce_id: str,
    of: Decision | Stopped | Ended,
    at_ms: Millis,
) -> Outgoing:
    """Give an event the trace of the row that it is made of."""
    record = write_event(
        topic,
        event,
        ce_id=ce_id,
        source=SOURCE,
        time_ms=at_ms,
        traceparent=of.traceparent,
        tracestate=of.tracestate,
    )
    return Outgoing(topic, record)


def work_cancelled(stopped: Stopped) -> WorkCancelled:
    """Return the event of work that is to stop."""
    return WorkCancelled(
        task_id=stopped.task_id,
        pool=stopped.pool,
        slot_id=stopped.slot_id,
        lease=stopped.lease,
        reason_code=stopped.reason_code,
        at=_moment(stopped.at_ms),
        decision_id=stopped.decision_id,
    )


def tasks_finished(step: Step) -> Iterator[tuple[Ended, TaskFinished]]:
    """Give the ends of tasks with their events; one id may have several in a step, each with its decision."""
    if not step.ended:
        return
    work = {done.decision_id: done for done in step.work}
    endings: dict[tuple[str, str], list[Decision]] = {}
    for decision in step.decisions:
        if decision.outcome not in ("routed", "waiting"):
            endings.setdefault((decision.pool, decision.task_id), []).append(decision)
    for ended in step.ended:
        said = endings.get((ended.pool, ended.task_id), [])
        ending = said.pop(0) if said and not ended.reason and ended.status != "success" else None
        yield ended, _finished(ended, ending, work)


def _finished(ended: Ended, ending: Decision | None, work: Mapping[str, WorkDone]) -> TaskFinished:
    decision_id = ended.decision_id or (ending.decision_id if ending is not None else None)
    done = work.get(decision_id or "")
    return TaskFinished(
        task_id=ended.task_id,
        pool=ended.pool,
        status=ended.status,
        attempts=ended.attempts,
        at=_moment(ended.at_ms),
        decision_id=decision_id,
        slot_id=ended.slot_id if done is None else done.slot_id,
        model=ended.model if done is None else done.model,
        cost_usd=None if done is None or done.cost_uusd is None else done.cost_uusd / 1_000_000,
        latency_s=None if done is None else done.outcome.latency_s,
        quality=None if done is None else done.outcome.quality,
        reason=ended.reason if ending is None else ending.reason,
    )


def task_routed(decision: Decision, step: Step, events: TaskEvents) -> TaskRouted:
    """Return the event of a routed decision; mode and rules are those of its step."""
    lease_expires_at_ms = decision.lease_expires_at_ms
    task = events.get((decision.pool, decision.task_id, decision.accepted_seq))
    return TaskRouted(
        decision_id=decision.decision_id,
        task_id=decision.task_id,
        pool=decision.pool,
        slot_id=decision.chosen_slot_id or "",
        model=decision.chosen_model or "",
        tier=decision.tier or 1,
        lease=decision.lease or 0,
        lease_expires_at=_moment(Millis(0) if lease_expires_at_ms is None else lease_expires_at_ms),
        lease_renewals_max=decision.lease_renewals_max,
        max_tokens=decision.max_tokens or 0,
        reason=decision.reason,
        attempt=decision.attempt,
        decided_at=_moment(decision.decided_at_ms),
        mode=step.mode,
        policy=step.policy,
        catalog=step.catalog,
        account=decision.chosen_account,
        provider=decision.chosen_provider,
        tenant_id=decision.tenant_id,
        agent_role=decision.agent_role,
        task_type=decision.task_type,
        title="" if task is None else task.title,
        input_tokens=0 if task is None else task.input_tokens,
        deadline=None if task is None else task.deadline,
        ref=None if task is None else task.ref,
        labels={} if task is None else task.labels,
        payload=None if task is None else task.payload,
    )


def _await_slot(decision: Decision, step: Step) -> TaskAwaitSlot:
    return TaskAwaitSlot(
        decision_id=decision.decision_id,
        task_id=decision.task_id,
        pool=decision.pool,
        reason_code=decision.reason_code,
        reason=decision.reason,
        verdicts=_verdicts(bytes(decision.alternatives)),
        waiting_since=_moment(decision.waiting_since_ms),
        decided_at=_moment(decision.decided_at_ms),
        mode=step.mode,
        position=decision.position,
    )
