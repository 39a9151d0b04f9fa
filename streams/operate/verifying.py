"""Verifies partitions of an installation: where their records come from, where a run goes on, and what came of it.

It writes nothing on the broker: consumers outside every group, no offset committed, no record sent.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct

from schemas.decision import Step
from streams.clock import SystemClock
from streams.core.policy.rulebook import Rulebook
from streams.kafka.client import Broker
from streams.kafka.compacted import KafkaCompacted
from streams.kafka.journal import KafkaJournal
from streams.kafka.recorded import KafkaRecordedInputs
from streams.operate.resuming import Resuming
from streams.partition.checkpoint import AlternatingCheckpoints
from streams.replay.partition_run import PartitionRun, Verified
from streams.replay.recorded_files import (
    Manifest,
    RecordedFileInputs,
    RecordedFileSnapshot,
    RecordedFileSteps,
    RecordingError,
    read_manifest,
    steps_file,
)
from streams.replay.recorded_step import RecordedStep
from streams.replay.report import StoredSteps, VerifyReport
from streams.replay.source import NoSnapshots, Source
from streams.replay.span import Span
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.topics import home_of, names

#: The state is saved this often.
SAVE_S: Final = 20.0

SourceOf: TypeAlias = Callable[[int], Source]


class Work(Struct, frozen=True, kw_only=True):
    """What is to be verified, as plain values that another process can be given."""

    settings: Settings
    span: Span
    #: A recording, or a file of `slotwise sink --to`, whose inputs are on the topics; None: all is on the topics.
    recording: str | None = None
    #: Directory from which runs go on; None: each begins at the begin.
    resume: str | None = None
    #: Whether progress has what a step's rows in Postgres can be compared with.
    compared: bool = False


class Same(NamedTuple):
    """A step that is the same, as far as its rows in Postgres can be compared with it."""

    seq: int
    offset: int
    #: SHA-256 of its record.
    sha256: bytes
    decision_ids: tuple[str, ...]


class Extent(Struct, frozen=True):
    """Offsets of a partition's journal, for progress."""

    partition: int
    first: int
    #: The one after the last.
    end: int


def is_whole(recording: str) -> bool:
    """Whether a recording has the inputs too, so that no broker is asked."""
    return Path(recording).is_dir()


@asynccontextmanager
async def sources(settings: Settings, recording: str | None = None) -> AsyncIterator[SourceOf]:
    """Give, while inside, what is recorded of a partition.

    Raises:
        RecordingError: the recording cannot be read.
        KafkaError: the broker does not answer; it is asked where a recording has not all.
    """
    if recording is not None and is_whole(recording):
        yield _of_directory(Path(recording), read_manifest(Path(recording)))
        return
    async with Broker(settings) as broker:
        yield lambda partition: _of_topics(settings, broker, partition, Path(recording) if recording else None)


def _of_topics(settings: Settings, broker: Broker, partition: int, lines: Path | None) -> Source:
    known = names(settings)
    inputs = KafkaRecordedInputs(broker, known, partition)
    if lines is not None:
        steps = RecordedFileSteps(lines, partition)
        return Source(partition=partition, steps=steps, inputs=inputs, snapshots=NoSnapshots())
    return Source(
        partition=partition,
        steps=KafkaJournal(broker, known, partition),
        inputs=inputs,
        snapshots=AlternatingCheckpoints(partition, KafkaCompacted(broker, known, partition), SystemClock()),
    )


def _of_directory(directory: Path, manifest: Manifest) -> SourceOf:
    def source(partition: int) -> Source:
        recorded = manifest.recorded.get(str(partition))
        if recorded is None:
            raise RecordingError(f"{directory} has no partition {partition}: it has {', '.join(manifest.recorded)}.")
        steps = RecordedFileSteps(steps_file(directory, partition), partition, first=recorded.first, end=recorded.end)
        return Source(
            partition=partition,
            steps=steps,
            inputs=RecordedFileInputs(directory, partition, recorded.inputs_first),
            snapshots=RecordedFileSnapshot(directory, partition),
        )

    return source


def partitions_in(settings: Settings, recording: str | None) -> tuple[int, Sequence[int]]:
    """Return how many partitions an installation has, and those that are recorded.

    Raises:
        RecordingError: the recording cannot be read.
    """
    if recording is None:
        return settings.partitions, range(settings.partitions)
    path = Path(recording)
    if not path.exists():
        raise RecordingError(
            f"{path} is not there: name a directory of `slotwise journal export`, or a file of `slotwise sink --to`."
        )
    if not is_whole(recording):
        return settings.partitions, range(settings.partitions)
    manifest = read_manifest(path)
    return manifest.partitions, sorted(map(int, manifest.recorded))


async def extents(work: Work, partitions: Sequence[int]) -> list[Extent]:
    """Return what there is to read of some partitions.

    Raises:
        RecordingError, KafkaError: as `sources`.
    """
    async with sources(work.settings, work.recording) as source:
        return [Extent(one, *await source(one).steps.bounds()) for one in partitions]


async def verify_partition(
    work: Work,
    partition: int,
    progress: Callable[[Verified, int, Sequence[Same]], None] = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
) -> Verified:
    """Verify one partition.

    After each stretch `progress` gets what has come of it, the offset of the journal that is next and, where they are
    to be compared, the stretch's steps; `stop` is asked then.

    Raises:
        ResumeError: the directory to go on from is of another run.
        RecordingError, KafkaError: as `sources`.
    """
    rulebook = file_rulebook(work.settings)
    count, _ = partitions_in(work.settings, work.recording)
    resuming = Resuming(Path(work.resume), rulebook, work.span) if work.resume is not None else None
    same: list[Same] = []

    def took(recorded: RecordedStep, step: Step) -> None:
        if work.compared:
            digest = hashlib.sha256(recorded.raw).digest()
            same.append(Same(step.seq, recorded.offset, digest, tuple(one.decision_id for one in step.decisions)))

    async with sources(work.settings, work.recording) as source:
        run = PartitionRun(
            source(partition),
            rulebook,
            home_of(count),
            work.span,
            resumed=resuming.load(partition) if resuming is not None else None,
            took=took,
        )
        saved_s = time.monotonic()
        async with aclosing(run.stretches()) as stretches:
            async for found in stretches:
                if run.state is not None:
                    progress(found, run.state.position.offset, tuple(same))
                    same.clear()
                if stop():
                    found.stopped = True
                    break
                if resuming is not None and run.state is not None and time.monotonic() - saved_s > SAVE_S:
                    resuming.save(run.state, found)
                    saved_s = time.monotonic()
        if resuming is not None and run.state is not None:
            resuming.save(run.state, run.found)
    return run.found


@asynccontextmanager
async def deriving(settings: Settings, rulebook: Rulebook) -> AsyncIterator[Callable[[int], Awaitable[Verified]]]:
    """Give, while inside, what verifies everything that the topics hold of a partition.

    Raises:
        KafkaError: the broker does not answer.
    """
    async with sources(settings) as source:

        async def derive(partition: int) -> Verified:
            run = PartitionRun(source(partition), rulebook, home_of(settings.partitions), Span())
            async with aclosing(run.stretches()) as stretches:
                async for _ in stretches:
                    pass
            return run.found

        yield derive


def report_of(
    found: Sequence[Verified], rulebook: Rulebook, *, seconds: float, stored: StoredSteps | None = None
) -> VerifyReport:
    """Sum up what came of some partitions, and of comparing them with Postgres."""
    return VerifyReport(
        same=all(one.same for one in found) and not (stored is not None and stored.differing),
        steps=sum(one.steps for one in found),
        decisions=sum(one.decisions for one in found),
        decisions_per_s=round(sum(one.decisions - one.earlier_decisions for one in found) / max(seconds, 1e-3)),
        seconds=round(seconds, 3),
        policy=rulebook.policy_hash,
        catalog=rulebook.catalog_hash,
        slotwise=version("slotwise"),
        partitions=tuple(sorted(found, key=lambda one: one.partition)),
        stored=stored,
    )
