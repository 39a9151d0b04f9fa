"""Make a recording as a busy router leaves one, or verify a partition of it; prints its findings as JSON.

Run: python -m tests.bench.sides.replay make DIR DECISIONS STEP_INPUTS WAITING SLOTS PARTITIONS
     python -m tests.bench.sides.replay verify DIR [PROFILE]
Each partition has one pool with so many tasks waiting and slots; then as many slots come free as tasks come.
"""

from __future__ import annotations

import asyncio
import cProfile
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas.codec import write_event
from schemas.input import Input, Misplaced, Unreadable
from schemas.steps import encode_step
from schemas.vocabulary import DECISION_AUDIT, INPUT_TOPICS
from streams.commands.replay_processes import tune_memory
from streams.core.router import Router
from streams.operate.verifying import Work, verify_partition
from streams.partition.memory import MemoryRecord
from streams.partition.received import RecordReader
from streams.replay.export import input_line, new_directory, step_line, write_manifest
from streams.replay.recorded_files import VERSION, Manifest, RecordedPartition
from streams.replay.recorded_step import RecordedStep, read_recorded
from streams.replay.span import Span
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.topics import home_of
from tests.bench.profile import write_profile
from tests.bench.workload import SOURCE, Churn, in_steps, pools_at_home

START_MS: Final = 1_795_255_200_000
FILL_INPUTS: Final = 1000
JOURNAL: Final = "bench"


class Made(Struct, frozen=True, kw_only=True):
    """What a recording holds of one partition."""

    decisions: int
    steps: int
    inputs: int
    bytes_per_decision: int


class Verified(Struct, frozen=True, kw_only=True):
    """What verifying one partition cost."""

    same: bool
    decisions: int
    steps: int
    seconds: float
    processor_s: float


class _Making:
    """One partition's recording on its way into files."""

    def __init__(self, directory: Path, partition: int, partitions: int) -> None:
        self._partition = partition
        self._router = Router(partition, file_rulebook(Settings()))
        self.churn = Churn(pools_at_home(partitions)[partition], START_MS)
        self._read = RecordReader(partition, home_of(partitions)).read
        self._steps = (directory / f"{DECISION_AUDIT}-{partition}.jsonl").open("wb")
        self._inputs: list[BinaryIO] = [(directory / f"{topic}-{partition}.jsonl").open("wb") for topic in INPUT_TOPICS]
        self.decisions = self.steps = self.bytes = 0

    @property
    def waiting(self) -> int:
        """Tasks without a slot."""
        return self._router.rows - 2 * self.churn.leased

    def play(self, inputs: Sequence[Input], size: int) -> None:
        """Write these inputs and the steps that are made of them, so many a step."""
        for some in in_steps(inputs, size):
            step = replace(self._router.handle([self._written(one) for one in some]), journal=JOURNAL)
            raw = encode_step(step)
            recorded: RecordedStep = read_recorded(raw)
            recorded.offset = step.seq
            self._steps.write(step_line(recorded))
            self._router.apply(step)
            self.churn.see(step)
            self.decisions += len(step.decisions)
            self.bytes += len(raw)
            self.steps += 1

    def _written(self, one: Input) -> Input:
        """Write an input as its producer would; return it as a worker reads it."""
        topic, event = INPUT_TOPICS[one.topic], one.event
        assert not isinstance(event, Unreadable | Misplaced)
        record = write_event(topic, event, ce_id=f"{one.topic}-{one.offset}", source=SOURCE, time_ms=one.now_ms)
        raw = MemoryRecord(
            offset=one.offset, timestamp=one.now_ms, key=record.key, value=record.value, headers=record.headers
        )
        self._inputs[one.topic].write(input_line(raw))
        read = self._read(one.topic, raw)
        return Input(one.topic, one.offset, one.now_ms, read.event, event_id=read.event_id)

    def end(self) -> RecordedPartition:
        """Close the files."""
        for file in (self._steps, *self._inputs):
            file.close()
        return RecordedPartition(first=0, end=self.steps, steps=self.steps, inputs_first=(0, 0, 0), journal=JOURNAL)


def make(directory: Path, decisions: int, step_inputs: int, waiting: int, slots: int, partitions: int) -> list[Made]:
    """Write a recording; return what it holds of each partition."""
    new_directory(directory)
    recorded, found = {}, []
    for partition in range(partitions):
        making = _Making(directory, partition, partitions)
        making.play(making.churn.announce(slots), FILL_INPUTS)
        while (missing := waiting - making.waiting) > 0:
            making.play(making.churn.arrive(min(FILL_INPUTS, missing)), FILL_INPUTS)
        goal = making.decisions + decisions
        while making.decisions < goal:
            making.play(making.churn.turn(max(1, step_inputs // 2)), step_inputs)
        recorded[str(partition)] = making.end()
        found.append(
            Made(
                decisions=making.decisions,
                steps=making.steps,
                inputs=making.churn.sent,
                bytes_per_decision=making.bytes // making.decisions,
            )
        )
    write_manifest(directory, Manifest(recording=VERSION, slotwise="bench", partitions=partitions, recorded=recorded))
    return found


def verify(directory: Path, profile: str | None) -> Verified:
    """Verify partition 0, as a process of the command does."""
    work = Work(settings=Settings(), span=Span(), recording=str(directory))
    tune_memory()
    profiler = cProfile.Profile()
    begun_s, processor_s = time.perf_counter(), time.process_time()
    if profile is not None:
        profiler.enable()
    found = asyncio.run(verify_partition(work, 0))
    profiler.disable()
    result = Verified(
        same=found.same,
        decisions=found.decisions,
        steps=found.steps,
        seconds=round(time.perf_counter() - begun_s, 3),
        processor_s=round(time.process_time() - processor_s, 3),
    )
    if profile is not None:
        write_profile(profiler, profile)
    return result


def main(words: Sequence[str]) -> None:
    """Do what the words say."""
    directory = Path(words[1])
    found: object
    if words[0] == "make":
        decisions, step_inputs, waiting, slots, partitions = map(int, words[2:])
        found = make(directory, decisions, step_inputs, waiting, slots, partitions)
    else:
        found = verify(directory, words[2] if len(words) > 2 else None)
    sys.stdout.write(msgspec.json.encode(found).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
