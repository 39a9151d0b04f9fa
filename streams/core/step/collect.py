"""Makes the step for the journal from the draft's rows."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.decision import Accepted, Step, TaskChanged, TaskRow
from schemas.input import Input
from schemas.marks import BreakerMark, DrainMark, ExhaustedMark, QuotaRow
from schemas.vocabulary import Millis, Mode
from streams.core.policy.rulebook import Rulebook
from streams.core.step.draft import StepDraft


def step_of(
    draft: StepDraft, inputs: Sequence[Input], now_ms: Millis, partition: int, mode: Mode, rulebook: Rulebook
) -> Step:
    """Return the step of these inputs."""
    tasks: list[TaskRow] = []
    changed: list[TaskChanged] = []
    marks = draft.marks
    pools = draft.pools.values()
    for pool in pools:
        known = pool.pool.tasks
        for task_id, row in pool.tasks.items():
            if task_id in known and task_id not in pool.finished:
                changed.append(TaskChanged(pool=pool.pool.name, task_id=task_id, status=row.status))
            else:
                tasks.append(row)
    return Step(
        partition=partition,
        seq=draft.seq,
        now_ms=now_ms,
        mode=mode,
        policy=rulebook.policy_hash,
        catalog=rulebook.catalog_hash,
        inputs=tuple([Accepted(item.topic, item.offset, item.now_ms) for item in inputs]),
        rejected=tuple(draft.rejected),
        forwarded=tuple(draft.forwarded),
        decisions=tuple(draft.decisions),
        tasks=tuple(tasks),
        tasks_changed=tuple(changed),
        finished=tuple([row for pool in pools for row in pool.finished.values()]),
        ended=tuple([row for pool in pools for row in pool.ended]),
        stopped=tuple([row for pool in pools for row in pool.stopped]),
        dead=tuple([row for pool in pools for row in pool.dead]),
        slots=tuple([row for pool in pools for row in pool.slots.values()]),
        slots_gone=tuple([gone for pool in pools for gone in pool.slots_gone.values()]),
        evs=tuple([sample for pool in pools for sample in pool.evs]),
        percentiles=tuple(draft.percentiles),
        work=tuple([row for pool in pools for row in pool.work]),
        controls=tuple(draft.controls.values()),
        exhausted=tuple([mark for mark in marks if isinstance(mark, ExhaustedMark)]),
        drains=tuple([mark for mark in marks if isinstance(mark, DrainMark)]),
        quotas=tuple([mark for mark in marks if isinstance(mark, QuotaRow)]),
        breakers=tuple([mark for mark in marks if isinstance(mark, BreakerMark)]),
        spent=tuple([row for pool in pools for row in pool.spent]),
        ledgers=tuple([row for pool in pools for row in pool.ledgers.values()]),
        money=tuple([row for pool in pools for row in pool.money]),
        activated=draft.activated,
        advice=tuple([(i, item.advice) for i, item in enumerate(inputs) if item.advice is not None]),
        cancels=tuple([(pool.pool.name, task_id, at) for pool in pools for task_id, at in pool.cancels.items()]),
        retried=tuple([(pool.pool.name, task_id) for pool in pools for task_id in pool.retried]),
        unannounced=tuple([pool.pool.name for pool in pools if pool.unannounced]),
        announced=tuple([(pool.pool.name, pool.announced_ms) for pool in pools if pool.announced_ms is not None]),
        duplicates=tuple([one for pool in pools for one in pool.duplicates]),
        counts=draft.counts,
    )
