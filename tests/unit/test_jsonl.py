"""The journal as JSON lines: whole lines only, gone on with where the file ends."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, BinaryIO

import pytest

from streams.sinks.cursor import Cursor
from streams.sinks.follow import JournalFollower
from streams.sinks.jsonl import JsonLinesStore, LinesFileError
from streams.sinks.ports import BEFORE_FIRST, JournaledStep, JournalMismatch, JournalRecord
from tests.support.builders import decision, journal, step
from tests.support.memory_sink import HandClock, MemoryRecords, until

if TYPE_CHECKING:
    from pathlib import Path


def opened(path: Path) -> BinaryIO:
    """Open a file to continue, made if it is missing."""
    path.touch()
    return path.open("r+b")


def taken(*seqs: int) -> list[JournaledStep]:
    """Give steps as they come out of the journal."""
    cursor = Cursor(0, BEFORE_FIRST)
    records = journal(step(seq, decision(of=seq)) for seq in range(max(seqs) + 1))
    all_of_them = [cursor.take(JournalRecord(0, offset, 0, value)) for offset, value in enumerate(records)]
    return [one for one in all_of_them if one is not None and one.step.seq in seqs]


async def test_a_file_is_gone_on_with_after_a_restart(tmp_path: Path) -> None:
    """The second run reads where the first one ended, and appends."""
    path = tmp_path / "journal.jsonl"
    records = MemoryRecords(HandClock(), 2)
    for seqs in ((0, 1), (2, 3)):
        for partition in (0, 1):
            values = journal(step(seq, decision(of=seq), partition=partition) for seq in seqs)
            records.append(*values, partition=partition)
        with opened(path) as out:
            follower = JournalFollower(
                records, JsonLinesStore(out, name=str(path), resumes=True), records.clock, lambda: 1.0, rows_max=100
            )
            await until(lambda: follower.status().steps == 4, follower)  # noqa: B023 - awaited before the next one
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    numbers = [(line["step"]["partition"], line["step"]["seq"]) for line in lines]
    assert sorted(numbers) == [(partition, seq) for partition in (0, 1) for seq in range(4)]


async def test_half_a_line_of_a_broken_write_is_cut_off(tmp_path: Path) -> None:
    """Killed in mid-write: the step is written again, whole."""
    path = tmp_path / "journal.jsonl"
    with opened(path) as out:
        await JsonLinesStore(out, name="lines", resumes=True).write(taken(0, 1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with opened(path) as out:
        store = JsonLinesStore(out, name="lines", resumes=True)
        assert (await store.positions())[0].seq == 0
        await store.write(taken(1))
    assert path.read_bytes() == whole


async def test_a_stream_that_is_only_written_gets_the_bytes_of_the_journal() -> None:
    """A reader can check the hash of each record."""
    pipe = io.BytesIO()
    one = taken(0)[0]
    await JsonLinesStore(pipe, name="standard output", resumes=False).write([one])
    assert pipe.getvalue() == b'{"offset":0,"sha256":"%s","chain":"%s","step":%s}\n' % (
        one.sha256.hex().encode(),
        one.chain.hex().encode(),
        one.raw,
    )


@pytest.mark.parametrize(
    "content",
    [b"# Notes\n", b"notes without an end", b'{"offset":1,"sha256":"zz","chain":"","step":{"partition":0,"seq":0}}\n'],
    ids=["lines", "half a line", "no hash"],
)
async def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """A mistyped name costs nothing."""
    path = tmp_path / "notes.md"
    path.write_bytes(content)
    with opened(path) as out, pytest.raises(LinesFileError, match=r"Line 1 of notes is no line of a journal"):
        await JsonLinesStore(out, name="notes", resumes=True).positions()
    assert path.read_bytes() == content


async def test_a_file_of_another_journal_is_refused(tmp_path: Path) -> None:
    """A broker in memory was restarted: its journal counts from 0 again, and the file says what to do."""
    path = tmp_path / "journal.jsonl"
    with opened(path) as out:
        await JsonLinesStore(out, name="lines", resumes=True).write(taken(0, 1))
    whole = path.read_bytes()
    records = MemoryRecords(HandClock())
    records.append(*journal(step(seq, decision(of=seq + 7)) for seq in range(3)))
    with opened(path) as out:
        store = JsonLinesStore(out, name=str(path), resumes=True)
        follower = JournalFollower(records, store, records.clock, lambda: 1.0, rows_max=100)
        with pytest.raises(
            JournalMismatch, match=r"another journal .* Nothing was written\. Name another file with --to"
        ):
            await until(lambda: False, follower)
    assert path.read_bytes() == whole
