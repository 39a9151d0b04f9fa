"""Recordings: what is exported is verified without a broker, by one process or more; a run goes on where one ended."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from schemas.vocabulary import LAST_MS
from streams.operate.recordings import recordings
from streams.operate.resuming import ResumeError
from streams.operate.verifying import Work, verify_partition
from streams.partition.memory import MemoryRecord
from streams.partition.ports import Entry
from streams.partition.reader import StepsMissing
from streams.replay import recorded_files
from streams.replay.export import Exporting, input_line, new_directory, write_manifest
from streams.replay.partition_run import Verified
from streams.replay.recorded_files import (
    Manifest,
    RecordedFileInputs,
    RecordedFileSteps,
    RecordingError,
    file_of,
    steps_file,
)
from streams.replay.recorded_step import read_recorded
from streams.replay.span import Span
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.topics import home_of
from tests.support.builders import freed, slot, task
from tests.support.every_command import Ended, run
from tests.support.recorded import Recorded, TakenSnapshots
from tests.support.router_rig import RouterRig
from tests.unit.test_replay_partition import activation, snapshot_before

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RULES = file_rulebook(Settings())
#: A pool of each of two partitions.
POOLS = [next(f"p{n}" for n in range(99) if home_of(2)(f"p{n}".encode()) == partition) for partition in (0, 1)]


def history(pool: str = POOLS[0], tasks: int = 2) -> RouterRig:
    """Give a history by the shipped rules, with a policy that is put in force after the tasks."""
    rig = RouterRig(book=RULES)
    rig.hand_in(slot("haiku-1", pool=pool), slot("opus-1", pool=pool))
    for number in range(tasks):
        rig.hand_in(task(f"t-{number}", pool=pool, title="Käse \N{SNOWMAN}"), after_s=1)
    rig.hand_in(activation(), after_s=1)
    rig.hand_in(freed("haiku-1", 1, "t-0", pool=pool), after_s=30)
    return rig


def export(recorded: Sequence[Recorded], directory: Path, span: Span | None = None, *, compressed: bool = True) -> Path:
    """Write a recording of an installation with two partitions; these are the first of them."""

    async def write() -> None:
        found = {}
        for one in recorded:
            exporting = Exporting(one.source, RULES, span or Span(), directory, compressed=compressed)
            async for _ in exporting.run():
                pass
            assert exporting.recorded is not None
            found[str(one.source.partition)] = exporting.recorded
        write_manifest(directory, Manifest(recording=1, slotwise="test", partitions=2, recorded=found))

    new_directory(directory)
    asyncio.run(write())
    return directory


def verified(directory: Path, span: Span | None = None, stop: Any = lambda: False, **more: Any) -> Verified:
    """Verify partition 0 of a recording."""
    work = Work(settings=Settings(), span=span or Span(), recording=str(directory), **more)
    return asyncio.run(verify_partition(work, 0, stop=stop))


def command(directory: Path, *words: str) -> Ended:
    """Run `slotwise replay --verify` on a recording."""
    return run("replay", "--verify", "--recording", str(directory), "--jobs", "1", *words)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_recording_is_verified_without_a_broker(tmp_path: Path, *, compressed: bool) -> None:
    """Steps and inputs come from its files alone, through the activated policy."""
    rig = history()
    ended = command(export([Recorded(rig)], tmp_path / "r", compressed=compressed), "--json")
    assert ended.code == 0, ended
    report = json.loads(ended.stdout)
    (one,) = report["partitions"]
    assert (report["same"], report["steps"], report["decisions"]) == (True, 5, 2)
    assert (one["first_seq"], one["next_seq"], [rule["seq"] for rule in one["rules"]]) == (0, 5, [0, 3])


def test_a_changed_step_of_a_recording_ends_with_exit_code_1_and_both_sides(tmp_path: Path) -> None:
    """Whatever the hash beside it says."""
    directory = export([Recorded(history())], tmp_path / "r", compressed=False)
    file = steps_file(directory, 0)
    file.write_bytes(file.read_bytes().replace(b'"chosen_slot_id":"haiku-1"', b'"chosen_slot_id":"haiku-2"', 1))
    ended = command(directory)
    assert ended.code == 1
    assert 'journaled  "haiku-2"' in ended.stdout
    assert 'derived    "haiku-1"' in ended.stdout


def test_partitions_are_verified_by_processes_side_by_side(tmp_path: Path) -> None:
    """The report has both, in order."""
    directory = export([Recorded(history(pool), number) for number, pool in enumerate(POOLS)], tmp_path / "r")
    ended = run("replay", "--verify", "--recording", str(directory), "--jobs", "2", "--json")
    assert ended.code == 0, ended
    report = json.loads(ended.stdout)
    assert [(one["partition"], one["steps"]) for one in report["partitions"]] == [(0, 5), (1, 5)]
    only = command(directory, "--partition", "1", "--json")
    assert [one["partition"] for one in json.loads(only.stdout)["partitions"]] == [1]


def test_a_recording_that_begins_later_has_the_state_before_it(tmp_path: Path) -> None:
    """From a snapshot of the topics, or from the journal's begin where there is none."""
    rig = history()
    recorded = Recorded(rig)
    recorded.snapshots = TakenSnapshots(snapshot_before(rig, 3))
    recorded.journal.log.cut(3)
    found = verified(export([recorded], tmp_path / "r", Span(since_seq=4)), Span(since_seq=4))
    assert (found.same, found.first_seq, found.steps, found.followed) == (True, 4, 1, 1)


def test_inputs_are_recorded_as_they_are(tmp_path: Path) -> None:
    """Bytes that are no text, no key, empty and absent values, and headers."""
    records = [
        MemoryRecord(offset=3, timestamp=-1, key=None, value=b"\xff\x00{", headers=(("a", b"\xfe"), ("a", b""))),
        MemoryRecord(offset=7, timestamp=5, key=b"", value=b"", headers=()),
        MemoryRecord(offset=8, timestamp=6, key=b"k\xc3\xa9", value=None, headers=(("ce_id", b'"x"\n'),)),
    ]
    with gzip.open(file_of(tmp_path, "task.pending", 0), "wb") as file:
        file.writelines(map(input_line, records))

    async def read() -> list[Any]:
        return [one async for run in RecordedFileInputs(tmp_path, 0, (3, 0, 0)).read(0, 3) for one in run]

    found = asyncio.run(read())
    assert [(one.offset, one.timestamp, one.key, one.value, tuple(one.headers)) for one in found] == [
        (one.offset, one.timestamp, one.key, one.value, one.headers) for one in records
    ]


def test_a_file_of_the_sink_has_the_steps_of_all_partitions(tmp_path: Path) -> None:
    """Each reader takes its own; where the journal begins is said by the first step."""
    file = tmp_path / "journal.jsonl"
    both = [Recorded(history(pool), number) for number, pool in enumerate(POOLS)]
    entries = [entry for one in both for entry in one.journal.log.records]
    file.write_bytes(b"".join(b'{"offset":%d,"step":%s}\n' % (one.offset + 3, one.value or b"") for one in entries))

    async def read(partition: int) -> tuple[int, list[Any]]:
        steps = RecordedFileSteps(file, partition)
        first, end = await steps.bounds()
        return first, [read_recorded(one.value) async for run in steps.read(first, end) for one in run]

    for partition in (0, 1):
        first, steps = asyncio.run(read(partition))
        assert first == 0
        assert [(one.partition, one.seq) for one in steps] == [(partition, seq) for seq in range(5)]


@pytest.mark.parametrize("first", [0, 2])
def test_a_file_of_the_sink_is_read_once_for_all_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Its lines come as they were written, mixed; where the journal was cut it begins later, and all of it counts."""
    file = tmp_path / "journal.jsonl"
    both = [Recorded(history(pool), number) for number, pool in enumerate(POOLS)]
    mixed = [entry for pair in zip(*(one.journal.log.records[first:] for one in both), strict=True) for entry in pair]
    file.write_bytes(b"".join(b'{"offset":%d,"step":%s}\n' % (one.offset, one.value or b"") for one in mixed))
    reads, said = list[Path](), list[int]()
    read = recorded_files.steps_in

    def counted(read_from: Path, *, of_sink: bool) -> Iterator[list[Entry]]:
        reads.append(read_from)
        return read(read_from, of_sink=of_sink)

    monkeypatch.setattr(recorded_files, "steps_in", counted)
    found = asyncio.run(
        recordings(Settings(), RULES, (1, 0), recording=str(file), from_ms=0, to_ms=LAST_MS, progress=said.append)
    )
    assert [one.partition for one in found] == [1, 0]
    assert [[step.seq for step in one.steps] for one in found] == [list(range(first, 5))] * 2
    assert [one.is_cut for one in found] == [first > 0] * 2
    assert (reads, said) == ([file], [2 * (5 - first)])


def test_a_step_that_a_sinks_file_lacks_is_named(tmp_path: Path) -> None:
    """What is behind it is not replayed."""
    file = tmp_path / "journal.jsonl"
    records = Recorded(history(POOLS[0])).journal.log.records
    lines = [b'{"offset":%d,"step":%s}\n' % (one.offset, one.value or b"") for one in records]
    file.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(StepsMissing, match="step 2 is missing"):
        asyncio.run(recordings(Settings(), RULES, (0,), recording=str(file), from_ms=0, to_ms=LAST_MS))


def test_a_stopped_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    """What it had verified is not verified again, and counts."""
    recorded = Recorded(history())
    first = export([recorded], tmp_path / "first", Span(until_seq=2))
    again = str(tmp_path / "state")
    assert verified(first, resume=again).next_seq == 3
    whole = export([recorded], tmp_path / "whole")
    stopped = verified(whole, resume=again, stop=lambda: True)
    assert stopped.stopped
    found = verified(whole, resume=again)
    assert (found.same, found.stopped, found.first_seq, found.next_seq) == (True, False, 0, 5)
    assert (found.steps, found.decisions, found.earlier_decisions) == (5, 2, 2)
    assert "5 steps with 2 decisions (2 of them by earlier runs)" in command(whole, "--resume", again).stdout
    with pytest.raises(ResumeError, match="another --from"):
        verified(whole, Span(since_seq=1), resume=again)


def test_a_difference_is_found_again_by_the_next_run(tmp_path: Path) -> None:
    """The saved state is the one before it."""
    directory = export([Recorded(history())], tmp_path / "r", compressed=False)
    file = steps_file(directory, 0)
    file.write_bytes(file.read_bytes().replace(b'"chosen_slot_id":"opus-1"', b'"chosen_slot_id":"opus-2"', 1))
    first = verified(directory, resume=str(tmp_path / "state"))
    again = verified(directory, resume=str(tmp_path / "state"))
    assert first.difference is not None
    assert (again.difference, again.steps) == (first.difference, first.steps)


def test_what_is_no_recording_is_a_mistake_in_one_sentence(tmp_path: Path) -> None:
    """No directory, an export that did not end, a line that is none, a directory that is not empty."""
    assert command(tmp_path / "nowhere").code == 2
    (tmp_path / "r").mkdir()
    assert "did not end" in command(tmp_path / "r").stderr
    directory = export([Recorded(history())], tmp_path / "s", compressed=False)
    with pytest.raises(RecordingError, match="not empty"):
        new_directory(directory)
    steps_file(directory, 0).write_bytes(b"{}\n")
    ended = command(directory)
    assert (ended.code, "Line 1 of" in ended.stderr) == (2, True)
    assert "has no partition 1" in command(directory, "--partition", "1").stderr
