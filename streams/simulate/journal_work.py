"""The work of one's own fleet, from its journal: what arrived and when, and how long it took.

Of a task its producer's words count, and the time when the router took it. Its length is that of all its attempts, as
their outcomes say; where they say nothing of time, from the decision to the report. Time beyond writing the answer, at
the catalogue's speed of the model that did it, is the same on every model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct, structs

from schemas.decision import TaskRow, WorkDone
from schemas.events import TaskPending
from schemas.steps import StepError, decode_step_by
from schemas.vocabulary import Millis
from streams.core.policy.catalog import Model
from streams.errors import MISTAKE, SlotwiseError
from streams.simulate.recording import Recording
from streams.simulate.trace import Call


class JournalWorkError(SlotwiseError):
    """A file of a journal holds no work that could be simulated; the message says why."""

    exit_code = MISTAKE


class _Routed(Struct, frozen=True):
    decision_id: str
    task_id: str
    pool: str
    outcome: str
    decided_at_ms: Millis


class _Part(Struct, frozen=True):
    """What is read of a step."""

    partition: int
    seq: int
    decisions: tuple[_Routed, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    work: tuple[WorkDone, ...] = ()


class _Work(Struct):
    """A task of the journal, and what its attempts took so far."""

    at_ms: Millis
    task: TaskPending
    ev: float | None
    attempts: int = 0
    output_tokens: int = 0
    overhead_s: float = 0.0


_PARTS: Final = msgspec.json.Decoder(_Part)


def journal_work(
    steps: Iterable[bytes], models: Mapping[str, Model], *, name: str, pool: str | None = None
) -> Recording:
    """Read the work of a journal, of one pool or of the only one; the steps of each partition come in order.

    Raises:
        JournalWorkError: a step is none of a journal, there is no finished work, or there are several pools.
    """
    found: list[_Work] = []
    latest: dict[tuple[str, str], _Work] = {}
    running: dict[str, tuple[_Work, Millis]] = {}
    seqs: dict[int, int] = {}
    for number, step in enumerate(steps, start=1):
        part = _part(step, number, name)
        if part.seq <= seqs.get(part.partition, -1):
            continue  # written twice: the first one counts
        seqs[part.partition] = part.seq
        for row in part.tasks:
            if pool in (None, row.task.pool):
                work = _Work(row.status.accepted_ms, row.task, row.ev)
                latest[row.task.pool, row.task.task_id] = work
                found.append(work)
        for one in part.decisions:
            if one.outcome == "routed" and (one.pool, one.task_id) in latest:
                running[one.decision_id] = latest[one.pool, one.task_id], one.decided_at_ms
        for done in part.work:
            if done.decision_id in running:
                _add(*running.pop(done.decision_id), done, models)
    return _recording(found, name)


def _part(step: bytes, number: int, name: str) -> _Part:
    try:
        return decode_step_by(_PARTS, step)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, StepError):
        raise JournalWorkError(
            f"What {name} has in its place {number} is no step of a journal: write it with `slotwise sink --to` or "
            "`slotwise journal export`."
        ) from None


def _add(work: _Work, decided_ms: Millis, done: WorkDone, models: Mapping[str, Model]) -> None:
    outcome = done.outcome
    taken_s = outcome.latency_s if outcome.latency_s is not None else (done.at_ms - decided_ms) / 1000
    model = models.get(done.model)
    tokens = outcome.output_tokens or 0
    if model is None or model.speed_tps is None:
        tokens = 0  # then nothing says which part of the time was writing
    else:
        taken_s -= tokens / model.speed_tps
    work.attempts += 1
    work.output_tokens += tokens
    work.overhead_s += max(0.0, taken_s)


def _recording(found: list[_Work], name: str) -> Recording:
    pools = sorted({work.task.pool for work in found})
    if len(pools) > 1:
        raise JournalWorkError(f"{name} has the pools {', '.join(pools)}: name one with --pool.")
    ended = [work for work in found if work.attempts]
    if len(ended) < 2:  # noqa: PLR2004 -- a pace takes two
        raise JournalWorkError(f"{name} has {len(ended)} finished tasks: too few to say how long work takes.")
    tokens = round(median(work.output_tokens for work in ended))
    overhead_s = median(work.overhead_s for work in ended)
    found.sort(key=lambda work: work.at_ms)
    if found[-1].at_ms == found[0].at_ms:
        raise JournalWorkError(f"{name} has all its tasks at one moment: they have no pace.")
    calls = [
        Call(
            (work.at_ms - found[0].at_ms) / 1000,
            work.task.input_tokens,
            work.output_tokens if work.attempts else tokens,
            task=_asked(work),
            overhead_s=work.overhead_s if work.attempts else overhead_s,
        )
        for work in found
    ]
    notes = ["Deadlines and delays of its tasks are left out: all are done, however late."]
    if len(ended) < len(found):
        notes.append(
            f"{len(found) - len(ended)} of its {len(found)} tasks have no outcome: they last as long as the median."
        )
    return Recording(name=name, calls=tuple(calls), notes=tuple(notes))


def _asked(work: _Work) -> TaskPending:
    """The task as its producer sent it, without what names times, places or slots of the fleet that it was sent to."""
    return structs.replace(
        work.task,
        ev=work.task.ev if work.task.ev is not None else work.ev,
        deadline=None,
        not_before=None,
        attempt=1,
        affinity=None,
        lease_s=None,
        output_tokens=work.task.output_tokens,
        payload=None,
        labels={},
        ref=None,
    )
