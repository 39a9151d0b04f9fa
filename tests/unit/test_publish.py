"""What is published is what the journal accepted: everything, in order per pool, and at least once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

import pytest

from schemas.decision import HistoryEntry, TaskRow, TaskStatus
from schemas.events import TaskPending
from schemas.steps import encode_step
from schemas.vocabulary import Millis
from streams.partition.memory import MemoryJournal
from streams.partition.outputs import Outgoing, output_records
from streams.partition.ports import JournalPosition
from streams.partition.publish import STEPS_MAX, Publisher
from streams.partition.reader import StepsMissing
from tests.support.builders import START_MS, decision, step
from tests.support.partition_world import until

if TYPE_CHECKING:
    from schemas.decision import Step


class Outputs:
    """Keeps what arrives; may fail at first, after having taken half."""

    def __init__(self, failures: int = 0) -> None:
        self.arrived: list[Outgoing] = []
        self.failures = failures

    async def send(self, outgoing: Sequence[Outgoing]) -> Sequence[Awaitable[object]]:
        """Take all, or half and fail."""
        acknowledged: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if self.failures:
            self.failures -= 1
            self.arrived.extend(outgoing[: len(outgoing) // 2])
            acknowledged.set_exception(ConnectionError("the broker went away"))
        else:
            self.arrived.extend(outgoing)
            acknowledged.set_result(None)
        return [acknowledged]

    def tasks(self) -> list[str]:
        """Task ids as they arrived, each where it came first."""
        return list(dict.fromkeys(json.loads(one.record.value)["task_id"] for one in self.arrived))


class Progress:
    """How far it got, in memory."""

    def __init__(self, *, with_seq: bool = True) -> None:
        self.saved: JournalPosition | None = None
        self.with_seq = with_seq

    async def load(self) -> tuple[int, int | None] | None:
        """Return what was saved; some brokers forget the step."""
        return None if self.saved is None else (self.saved.offset, self.saved.seq if self.with_seq else None)

    async def save(self, position: JournalPosition, _journal_id: str | None) -> None:
        """Remember."""
        self.saved = position


def unknown(pool: str, task_id: str) -> TaskRow | None:
    """No task is unfinished."""


def history(count: int) -> list[Step]:
    """One decision a step."""
    return [step(seq, decision(task_id=f"t-{seq}", of=seq)) for seq in range(count)]


async def written(journal: MemoryJournal, steps: Sequence[Step]) -> None:
    """Put steps into the journal."""
    for one in steps:
        await journal.append(encode_step(one))


async def test_confirmed_steps_are_published_in_order() -> None:
    """Without reading it back."""
    outputs, progress = Outputs(), Progress()
    publisher = Publisher(0, MemoryJournal(), outputs, progress)
    await publisher.start(JournalPosition(0, 0), JournalPosition(0, 0), unknown)
    for offset, one in enumerate(history(10)):
        assert publisher.offer(offset, one)
    await publisher.stop()
    assert outputs.tasks() == [f"t-{seq}" for seq in range(10)]
    assert progress.saved == JournalPosition(10, 10)


async def test_a_new_publisher_goes_on_where_the_last_one_got_to() -> None:
    """Even where the broker forgets the number of the step."""
    for with_seq in (True, False):
        journal, outputs, progress = MemoryJournal(), Outputs(), Progress(with_seq=with_seq)
        await written(journal, history(8))
        progress.saved = JournalPosition(3, 3)
        publisher = Publisher(0, journal, outputs, progress)
        await publisher.start(JournalPosition(0, 0), JournalPosition(8, 8), unknown)
        await until(lambda found=progress: found.saved == JournalPosition(8, 8))  # type: ignore[misc]
        await publisher.stop()
        assert outputs.tasks() == [f"t-{seq}" for seq in range(3, 8)]


async def test_a_fenced_step_is_never_published() -> None:
    """The number was taken: its decisions never happened."""
    journal, outputs = MemoryJournal(), Outputs()
    zombie = step(1, decision(task_id="zombie", of=1))
    await written(journal, [*history(2), zombie, *history(4)[2:]])
    publisher = Publisher(0, journal, outputs, Progress())
    await publisher.start(JournalPosition(0, 0), JournalPosition(5, 4), unknown)
    await until(lambda: len(outputs.arrived) == 4)
    await publisher.stop()
    assert outputs.tasks() == ["t-0", "t-1", "t-2", "t-3"]


async def test_a_journal_with_a_gap_ends_the_publisher_and_is_not_committed_past() -> None:
    """What stands before the gap is published; nothing after it, although the worker offers more."""
    journal, outputs, progress = MemoryJournal(), Outputs(), Progress()
    steps = history(5)
    await written(journal, [steps[0], steps[2], steps[3]])
    publisher = Publisher(0, journal, outputs, progress)
    await publisher.start(JournalPosition(0, 0), JournalPosition(3, 4), unknown)
    publisher.offer(3, steps[4])
    with pytest.raises(StepsMissing, match="goes from step 0 to step 2 at offset 1: step 1 is missing"):
        await publisher.failed()
    await publisher.stop()
    assert outputs.tasks() == ["t-0"]
    assert progress.saved == JournalPosition(1, 1)


async def test_a_worker_that_offers_a_later_step_than_the_next_ends_the_publisher() -> None:
    """Between what is published and what is offered no step may be missing."""
    journal, outputs, progress = MemoryJournal(), Outputs(), Progress()
    steps = history(5)
    await written(journal, steps[:2])
    publisher = Publisher(0, journal, outputs, progress)
    await publisher.start(JournalPosition(0, 0), JournalPosition(2, 2), unknown)
    publisher.offer(2, steps[3])
    with pytest.raises(StepsMissing):
        await publisher.failed()
    await publisher.stop()
    assert progress.saved in {None, JournalPosition(2, 2)}


async def test_a_fenced_record_before_the_remembered_place_does_not_confuse_the_count() -> None:
    """A broker without metadata: the highest number before it was accepted, not the last one."""
    journal, outputs, progress = MemoryJournal(), Outputs(), Progress(with_seq=False)
    steps = history(4)
    await written(journal, [*steps[:3], steps[1], steps[3]])
    progress.saved = JournalPosition(4, 3)
    publisher = Publisher(0, journal, outputs, progress)
    await publisher.start(JournalPosition(0, 0), JournalPosition(5, 4), unknown)
    await until(lambda: progress.saved == JournalPosition(5, 4))
    await publisher.stop()
    assert outputs.tasks() == ["t-3"]


async def test_a_failure_repeats_and_leaves_nothing_out() -> None:
    """At least once, in order."""
    journal, outputs, progress = MemoryJournal(), Outputs(failures=3), Progress()
    steps = history(20)
    await written(journal, steps)
    publisher = Publisher(0, journal, outputs, progress)
    await publisher.start(JournalPosition(0, 0), JournalPosition(10, 10), unknown)
    for offset in range(10, 20):
        publisher.offer(offset, steps[offset])
    await until(lambda: progress.saved == JournalPosition(20, 20))
    await publisher.stop()
    assert outputs.tasks() == [f"t-{seq}" for seq in range(20)]


async def test_a_full_queue_makes_the_worker_wait() -> None:
    """Memory is bounded."""
    publisher = Publisher(0, MemoryJournal(), Outputs(), Progress())
    await publisher.start(JournalPosition(0, 0), JournalPosition(0, 0), unknown)
    steps = history(STEPS_MAX + 1)
    taken = [publisher.offer(offset, one) for offset, one in enumerate(steps)]
    assert taken == [True] * STEPS_MAX + [False]
    await publisher.room()
    assert publisher.offer(STEPS_MAX, steps[-1])
    await publisher.stop()


def test_a_routed_task_and_a_waiting_one_have_topics_of_their_own() -> None:
    """With CloudEvents headers and the trace that they belong to."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    routed = decision(task_id="t-1", traceparent=trace)
    waiting = decision(task_id="t-2", outcome="waiting", position=3, alternatives={"opus": {"gate": "premium"}})
    one, other = output_records(step(0, routed, waiting), {})
    assert (one.topic, other.topic) == ("task.routed", "task.await_slot")
    assert one.record.key == b"main"
    headers = dict(one.record.headers)
    assert (headers["ce_id"].decode(), headers["traceparent"].decode()) == (routed.decision_id, trace)
    body = json.loads(other.record.value)
    assert (body["verdicts"], body["position"], body["reason_code"]) == ({"opus": "premium"}, 3, "capable_busy")


@pytest.mark.rule("end.dead_lettered")
def test_a_task_given_up_is_a_dead_letter_with_its_history() -> None:
    """Beside the decision that says so."""
    row = TaskRow(
        task=TaskPending(task_id="t-1", pool="main", at="2026-11-21T10:00:00.000Z"),
        at_ms=Millis(START_MS),
        status=TaskStatus(
            state="running",
            attempt=3,
            since_ms=Millis(START_MS),
            accepted_ms=Millis(START_MS),
            history=(HistoryEntry(Millis(START_MS), 0, "pended"),),
        ),
    )
    end = decision(task_id="t-1", outcome="dead_lettered", reason_code="dead_lettered", reason="Failed 3 times.")
    announced, letter = output_records(step(0, end, dead=(row,)), {})
    assert (announced.topic, letter.topic) == ("task.await_slot", "task.pending.dlq")
    value = json.loads(letter.record.value)
    assert (value["task"]["task_id"], len(value["story"])) == ("t-1", 1)
    headers = dict(letter.record.headers)
    assert headers["__streams.errors.message"] == b"Failed 3 times."
