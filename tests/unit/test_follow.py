"""Who follows the journal hands on each step once and in order, whatever is delivered and whatever fails."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING

import pytest

from streams.sinks.cursor import Cursor
from streams.sinks.follow import BACKOFF, JournalFollower
from streams.sinks.ports import BEFORE_FIRST, JournalMismatch, JournalRecord, RetryableError
from tests.support.builders import decision, journal, step
from tests.support.memory_sink import HandClock, MemoryRecords, MemoryStore, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.sinks.ports import JournaledStep


class Bench:
    """A follower between a topic and a store in memory."""

    def __init__(self, partitions: int = 1, *, rows_max: int = 1000, accept_loss: bool = False) -> None:
        self.clock = HandClock(1_000_000)
        self.records = MemoryRecords(self.clock, partitions)
        self.store = MemoryStore()
        self.follower = self.another(rows_max=rows_max, accept_loss=accept_loss)

    def another(self, *, rows_max: int = 1000, accept_loss: bool = False) -> JournalFollower:
        """Give a follower as after a restart."""
        return JournalFollower(
            self.records, self.store, self.clock, lambda: 1.0, rows_max=rows_max, accept_loss=accept_loss
        )


def steps(*seqs: int, partition: int = 0) -> list[bytes]:
    """Give records of steps with a decision each."""
    return journal(step(seq, decision(of=seq), partition=partition) for seq in seqs)


async def test_each_step_is_kept_once_and_in_order() -> None:
    """Records of several partitions arrive as they were appended."""
    bench = Bench(partitions=2)
    bench.records.append(*steps(0, 1, 2))
    bench.records.append(*steps(0, 1, partition=1), partition=1)
    await until(lambda: bench.follower.status().steps == 5, bench.follower)
    assert bench.store.seqs(0) == [0, 1, 2]
    assert bench.store.seqs(1) == [0, 1]
    assert bench.records.committed == {0: 3, 1: 2}
    assert bench.records.closed
    assert bench.store.closed


async def test_a_number_that_is_taken_is_ignored() -> None:
    """A worker that had lost its partition appends step 1 again, with other decisions: the first one holds."""
    bench = Bench()
    late = journal([step(1, decision(of=99, task_id="t-of-a-zombie"))])
    bench.records.append(*steps(0, 1), *late, *steps(2), *late)
    await until(lambda: bench.follower.status().steps == 3, bench.follower)
    assert bench.store.seqs() == [0, 1, 2]
    assert {one.step.decisions[0].task_id for one in bench.store.stored[0]} == {"t-1"}
    assert bench.follower.status().duplicates == 2
    assert bench.follower.status().lag_records == 0


async def test_a_restart_goes_on_where_the_store_stands() -> None:
    """Committed offsets do not matter: what was written says where to go on."""
    bench = Bench()
    bench.records.append(*steps(0, 1, 2))
    await until(lambda: bench.follower.status().steps == 3, bench.follower)
    bench.records.append(*steps(3))
    bench.records.committed = {0: 0}
    again = bench.another()
    await until(lambda: again.status().steps == 1, again)
    assert bench.store.seqs() == [0, 1, 2, 3]


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_store_that_fails_is_waited_for_and_loses_and_doubles_nothing(where: str) -> None:
    """It makes no difference whether the batch was kept before the connection broke."""
    bench = Bench()
    bench.records.append(*steps(0, 1, 2))
    if where == "before":
        bench.store.fail_before = 5
    else:
        bench.store.fail_after = 1
    await until(lambda: bench.store.seqs() == [0, 1, 2] and bench.follower.status().trouble is None, bench.follower)
    assert bench.store.seqs() == [0, 1, 2]


async def test_the_back_off_grows_to_a_bound_and_an_outage_is_logged_at_intervals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An outage of 200 attempts is a handful of lines."""
    caplog.set_level(logging.WARNING)
    bench = Bench()
    bench.records.append(*steps(0))
    bench.store.fail_before = 200
    began_ms = bench.clock.ms
    await until(lambda: bench.store.seqs() == [0], bench.follower)
    lasted_s = (bench.clock.ms - began_ms) / 1000
    assert 150 * BACKOFF.longest_s < lasted_s < 201 * BACKOFF.longest_s
    assert 3 <= len(caplog.records) <= 3 + lasted_s / 60
    assert "trying until it is back" in caplog.messages[0]
    assert "back after" in caplog.messages[-1]


async def test_a_store_that_answers_but_takes_nothing_is_one_outage(caplog: pytest.LogCaptureFixture) -> None:
    """It is back when something was written, not when it said where it stands: a full disk can be read."""
    caplog.set_level(logging.WARNING)
    bench = Bench()
    bench.records.append(*steps(0, 1))
    original, refused = bench.store.write, iter(range(8))

    async def write(steps: Sequence[JournaledStep]) -> None:
        if next(refused, None) is not None:
            raise RetryableError("the database at test:1 failed (no space left)")
        await original(steps)

    bench.store.write = write  # type: ignore[method-assign]
    await until(lambda: bench.store.seqs() == [0, 1] and bench.follower.status().trouble is None, bench.follower)
    assert [message.partition(":")[0] for message in caplog.messages] == ["sink", "sink"]
    assert "trying until it is back" in caplog.messages[0]
    assert "back after" in caplog.messages[1]


async def test_the_next_batch_is_read_while_one_is_written() -> None:
    """And is written after it, in order; what is not written yet counts as lag."""
    bench = Bench(rows_max=2, accept_loss=True)
    bench.records.append(*steps(0), b"{}", *steps(1))
    original, go_on = bench.store.write, asyncio.Event()

    async def write(steps: Sequence[JournaledStep]) -> None:
        await go_on.wait()
        await original(steps)

    bench.store.write = write  # type: ignore[method-assign]

    def both_are_written() -> bool:
        if bench.follower.status().unreadable:
            # Read on, past the first batch, which is still being written.
            assert go_on.is_set() or bench.store.seqs() == []
            go_on.set()
        return bench.store.seqs() == [0, 1] and bench.follower.status().lag_records == 0

    await until(both_are_written, bench.follower)


async def test_the_lag_of_an_outage_is_visible() -> None:
    """While the store is away a board sees how many records wait, for how long, and why."""
    bench = Bench()
    bench.records.append(*steps(0))
    await until(lambda: bench.follower.status().steps == 1, bench.follower)
    assert bench.follower.status().lag_s == 0
    bench.store.fail_before = 10_000
    bench.records.append(*steps(1, 2), at_ms=bench.clock.ms)
    await until(lambda: bench.follower.status().lag_s > 60, bench.follower)
    status = bench.follower.status()
    assert status.lag_records == 2
    assert status.trouble == "the database at test:1 failed (gone)"
    assert status.trouble_s > 59


async def test_an_outage_from_the_start_counts_as_lag() -> None:
    """Where the store stands is not known yet, but an alert on the age of the audit must fire."""
    bench = Bench()
    bench.store.fail_before = 10_000
    await until(lambda: bench.follower.status().lag_s > 60, bench.follower)
    assert bench.follower.status().partitions == {}


async def test_batches_are_bounded_by_rows() -> None:
    """Two rows a step and at most four a transaction: two steps a batch."""
    bench = Bench(rows_max=4)
    bench.records.append(*steps(*range(6)))
    await until(lambda: bench.follower.status().steps == 6, bench.follower)
    assert bench.store.batches == [2, 2, 2]


async def test_a_skipped_number_is_read_again_before_anything_is_said() -> None:
    """A fetch that left out a record is repaired by reading from where the store stands."""
    bench = Bench()
    bench.records.append(*steps(0, 1, 2, 3))
    whole = bench.records.logs[0]
    bench.records.logs[0] = [whole[0], whole[2]]
    original, seeks = bench.records.seek, []

    def seek(partition: int, offset: int) -> None:
        seeks.append(offset)
        if len(seeks) == 2:
            bench.records.logs[0] = whole
        original(partition, offset)

    bench.records.seek = seek  # type: ignore[method-assign]
    await until(lambda: bench.follower.status().steps == 4, bench.follower)
    assert bench.store.seqs() == [0, 1, 2, 3]
    assert seeks == [0, 0]


async def test_steps_that_the_topic_no_longer_has_stop_the_sink_with_a_sentence() -> None:
    """A gap is never skipped silently; what stands before it is written."""
    bench = Bench()
    bench.records.append(*steps(0, 1, 5, 6))
    with pytest.raises(
        JournalMismatch, match=r"decision\.audit: .* at offset 2: steps 2 to 4 are missing.*--accept-loss"
    ):
        await until(lambda: False, bench.follower)
    assert bench.store.seqs() == [0, 1]


async def test_a_loss_that_is_accepted_leaves_a_gap_that_can_be_seen() -> None:
    """The numbers show what is missing."""
    bench = Bench(accept_loss=True)
    bench.records.append(*steps(0, 1, 5, 6))
    await until(lambda: bench.follower.status().steps == 4, bench.follower)
    assert bench.store.seqs() == [0, 1, 5, 6]


async def test_a_damaged_record_stops_the_sink_with_a_sentence() -> None:
    """It may have been the next step, and no other reader of the journal goes past it."""
    bench = Bench()
    bench.records.append(*steps(0), b"\xff not a step", *steps(1))
    with pytest.raises(
        JournalMismatch, match=r"offset 1 .* cannot be read: This journal record is no step.*accept-loss"
    ):
        await until(lambda: False, bench.follower)
    assert bench.store.seqs() == [0]


async def test_a_damaged_record_whose_loss_is_accepted_is_passed_over_and_counted() -> None:
    """If it was a step, the numbers show it."""
    bench = Bench(accept_loss=True)
    bench.records.append(*steps(0), b"{}", *steps(2))
    await until(lambda: bench.follower.status().steps == 2, bench.follower)
    assert bench.store.seqs() == [0, 2]
    assert bench.follower.status().unreadable == 1


CASES_OF_ANOTHER_JOURNAL = {
    "it is empty": ([], "is empty"),
    "it is shorter than what was written": (steps(0), "ends at offset 1"),
    "its record where we stand is another": (
        journal(step(seq, decision(of=seq, task_id="t-other")) for seq in range(4)),
        "has another record at offset 2",
    ),
}


@pytest.mark.parametrize(("records", "want"), CASES_OF_ANOTHER_JOURNAL.values(), ids=CASES_OF_ANOTHER_JOURNAL.keys())
async def test_another_journal_of_the_same_name_is_not_added_to_the_audit(records: list[bytes], want: str) -> None:
    """The sink says so and stops; nothing is written."""
    bench = Bench()
    bench.records.append(*steps(0, 1, 2))
    await until(lambda: bench.follower.status().steps == 3, bench.follower)
    bench.records.logs[0] = []
    bench.records.append(*records)
    with pytest.raises(JournalMismatch, match=want):
        await until(lambda: False, bench.another())
    assert bench.store.seqs() == [0, 1, 2]


async def test_a_partition_that_goes_to_another_sink_is_left_alone() -> None:
    """The other sink writes on; when the partition comes back, its steps are not written again."""
    bench = Bench(partitions=2)
    bench.records.append(*steps(0))
    bench.records.append(*steps(0, partition=1), partition=1)
    await until(lambda: bench.follower.status().steps == 2, bench.follower)
    bench.records.append(*steps(1, 2))
    bench.records.assigned = frozenset({1})
    second = bench.another()
    bench.records.append(*steps(1, partition=1), partition=1)
    await until(lambda: bench.store.seqs(1) == [0, 1], second)
    assert bench.store.seqs(0) == [0]
    assert set(second.status().partitions) == {1}
    bench.records.assigned = frozenset({0, 1})
    third = bench.another()
    await until(lambda: third.status().steps == 2, third)
    assert bench.store.seqs(0) == [0, 1, 2]


def test_each_hash_is_linked_to_the_one_before() -> None:
    """The chain can be computed from the records alone."""
    cursor = Cursor(0, BEFORE_FIRST)
    chain = bytes(32)
    for offset, value in enumerate(steps(0, 1, 2)):
        taken = cursor.take(JournalRecord(0, offset, 0, value))
        assert taken is not None
        assert taken.sha256 == hashlib.sha256(value).digest()
        chain = hashlib.sha256(chain + taken.sha256).digest()
        assert taken.chain == chain
