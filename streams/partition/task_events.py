"""The events of the tasks that a step routes or gives up, which its output records hand on.

A step names a task; what its producer sent stands once in the journal, in the step that accepted the task. It is looked
for in the step itself, then among the unfinished tasks, and last in the journal: after a restart, for a task that is
over by now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from schemas.decision import Step, TaskRow
from schemas.events import TaskPending
from schemas.steps import decode_step_by
from streams.partition.ports import FindTask, Journal, JournalError, JournalPosition
from streams.partition.reader import LOOKBACK_RECORDS, JournalReader

_log = logging.getLogger(__name__)

#: Accepting steps that are kept.
STEPS_MAX: Final = 8
#: Pool, task id and number of the step that accepted it: an id can be used again after the task's end.
TaskKey: TypeAlias = tuple[str, str, int | None]
TaskEvents: TypeAlias = Mapping[TaskKey, TaskPending]


class _Accepting(Struct, frozen=True, kw_only=True, gc=False):
    """The part of a step that has the tasks that it accepted."""

    partition: int
    seq: int
    journal: str | None = None
    tasks: tuple[TaskRow, ...] = ()


_ACCEPTING: Final = msgspec.json.Decoder(_Accepting)


def _read_accepting(raw: bytes) -> _Accepting:
    return decode_step_by(_ACCEPTING, raw)


class EventFinder:
    """Finds the events of one partition's tasks."""

    def __init__(self, partition: int, journal: Journal) -> None:
        self._partition = partition
        self._journal = journal
        self.find: FindTask = lambda _pool, _task_id: None
        #: The accepting steps read last, by number: tasks that were accepted together are often routed in turn.
        self._accepted: dict[int, dict[TaskKey, TaskPending]] = {}

    async def of(self, step: Step, offset: int) -> TaskEvents:
        """Return the events of the tasks that the step, at this offset, routes or gives up, where they are known."""
        found: dict[TaskKey, TaskPending] = {}
        missing: dict[int, list[TaskKey]] = {}
        own = {(row.task.pool, row.task.task_id, row.accepted_seq): row.task for row in step.tasks}
        for key in _wanted(step):
            pool, task_id, seq = key
            row = self.find(pool, task_id)
            if key in own:
                found[key] = own[key]
            elif row is not None and row.accepted_seq == seq:
                found[key] = row.task
            elif seq is not None:
                missing.setdefault(seq, []).append(key)
        for seq, keys in missing.items():
            accepted = await self._accepted_by(seq, JournalPosition(offset, step.seq))
            found |= {key: accepted[key] for key in keys if key in accepted}
        return found

    async def _accepted_by(self, seq: int, later: JournalPosition) -> Mapping[TaskKey, TaskPending]:
        known = self._accepted.get(seq)
        if known is None:
            try:
                step = await self._read(seq, later)
            except JournalError as error:  # what follows it is published all the same
                _log.warning("partition %d: step %d cannot be read back: %s", self._partition, seq, error)
                step = None
            if step is None:
                _log.warning("partition %d: what tasks of step %d carried is published without, because the journal "
                             "does not hold it any more", self._partition, seq)  # fmt: skip
            tasks = step.tasks if step is not None else ()
            known = {(row.task.pool, row.task.task_id, seq): row.task for row in tasks}
            while len(self._accepted) >= STEPS_MAX:
                del self._accepted[next(iter(self._accepted))]
            self._accepted[seq] = known
        return known

    async def _read(self, seq: int, later: JournalPosition) -> _Accepting | None:
        """Read step `seq`, which stands before the step at `later`; None: the journal does not hold it any more."""
        first, _ = await self._journal.bounds()
        # Each step between the two has a record; fenced ones may have pushed it further back.
        last = later.offset - (later.seq - seq)
        back = LOOKBACK_RECORDS
        while last >= first:
            joins_at = max(last - back, first)
            reader = JournalReader.joining(self._partition, _read_accepting, offset=joins_at)
            async with aclosing(self._journal.read(max(joins_at - LOOKBACK_RECORDS, first), last + 1)) as runs:
                async for run in runs:
                    for entry in run:
                        part = await reader.take_from(self._journal, entry)
                        if part is not None and part.seq == seq:
                            return part
            if joins_at == first:
                break
            back *= 8
        return None


def _wanted(step: Step) -> Iterator[TaskKey]:
    for decision in step.decisions:
        if decision.outcome == "routed":
            yield decision.pool, decision.task_id, decision.accepted_seq
    for row in step.dead:
        yield row.task.pool, row.task.task_id, row.accepted_seq
