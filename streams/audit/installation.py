"""Audits a running installation: reads journal and topics from the broker and the audit from Postgres, and reports.

What the input topics hold when the audit begins must be in the journal, and what the journal holds must be in Postgres
and on the output topics, after a moment: `wait_s` says how long that moment may be. Writes nothing anywhere.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeAlias

from schemas.dead_letter_marks import is_mark
from schemas.vocabulary import INPUT_TOPICS, OUTPUT_TOPICS
from streams.audit import agreement
from streams.audit.agreement import DEAD_LETTERS, JournalCounts
from streams.audit.checkpoint_state import unlike_its_journal
from streams.audit.journal import JournalAudit
from streams.audit.problem import PROMISES, Problem, Promise
from streams.audit.report import PartitionReport, Report
from streams.audit.stored import Journaled, StoredAudit
from streams.database.connection import Timeouts
from streams.kafka.client import Broker
from streams.replay.partition_run import Verified
from streams.together import all_of
from streams.topics import name_in_audit, names

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from streams.core.policy.rulebook import Rulebook
    from streams.settings import Settings

#: Partitions that are read at the same time.
AT_ONCE: Final = 4
#: Steps whose rows are compared in one query.
COMPARED: Final = 2_000
POLL_S: Final = 0.2
#: What is checked where steps are derived again.
_DERIVED: Final[tuple[Promise, ...]] = ("derived", "state")
#: Derives the steps of a partition again.
Derive: TypeAlias = Callable[[int], Awaitable[Verified]]


async def audit_installation(
    settings: Settings,
    rulebook: Rulebook,
    *,
    wait_s: float = 10.0,
    derive: Derive | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Audit every partition of an installation.

    `derive` also derives the steps of a partition again. `progress` gets the number of journal records read so far.

    Raises:
        DatabaseError: Postgres cannot be reached or read.
        KafkaError, TimeoutError: the broker does not answer.
    """
    stored = await asyncio.to_thread(StoredAudit, settings.database, name_in_audit(settings), Timeouts.of(settings))
    with stored:
        async with Broker(settings) as broker:
            return await _Auditor(settings, rulebook, broker, stored, wait_s=wait_s, progress=progress).run(derive)


class _Partition:
    """One partition while it is audited."""

    def __init__(self, number: int, rules: Rulebook) -> None:
        self.number = number
        self.audit = JournalAudit(
            number, memory_ms=rules.memory_ms, ageing_ms=rules.ageing_ms, patience_points=rules.patience_points
        )
        #: Where reading the journal goes on; None: not begun.
        self.offset: int | None = None
        #: First offset and end of each input topic, when the audit began.
        self.bounds: list[tuple[int, int]] = []
        #: Read, and not compared with the database yet.
        self.latest: list[Journaled] = []
        #: Not in the database when they were compared.
        self.absent: list[Journaled] = []
        self.derived: int | None = None


class _Auditor:
    """One audit."""

    def __init__(
        self,
        settings: Settings,
        rulebook: Rulebook,
        broker: Broker,
        stored: StoredAudit,
        *,
        wait_s: float,
        progress: Callable[[int], None],
    ) -> None:
        self._rulebook = rulebook
        self._names = names(settings)
        self._broker = broker
        self._stored = stored
        self._wait_s = wait_s
        self._progress = progress
        self._partitions = [_Partition(number, rulebook) for number in range(settings.partitions)]
        self._records = 0
        self._problems: list[Problem] = []
        self._checked: dict[Promise, str] = {name: text for name, text in PROMISES.items() if name not in _DERIVED}
        self._notes: list[str] = []
        self._turn = asyncio.Semaphore(AT_ONCE)
        #: The database connection answers one question at a time.
        self._asking = asyncio.Lock()

    async def run(self, derive: Derive | None) -> Report:
        # 1. What is there now is what must be accounted for.
        await self._each(self._bound)
        # 2. Read the journals, and give the workers a moment for what they have not handled yet.
        await self._each(self._read)
        await self._until_handled()
        # 3. The same for the database, and for the outputs.
        await self._compare_stored()
        await self._compare_published()
        if derive is not None:
            self._checked |= {name: PROMISES[name] for name in _DERIVED}
            for partition in self._partitions:
                await self._derive(partition, derive)
        return self._report()

    async def _each(self, work: Callable[[_Partition], Awaitable[None]]) -> None:
        async def one(partition: _Partition) -> None:
            async with self._turn:
                await work(partition)

        await all_of(map(one, self._partitions))

    async def _bound(self, partition: _Partition) -> None:
        for topic in self._names.inputs:
            partition.bounds.append(await self._broker.bounds(topic, partition.number))

    # The journal.

    async def _read(self, partition: _Partition) -> None:
        """Read the journal from where reading ended to where it ends now."""
        first, end = await self._broker.bounds(self._names.journal, partition.number)
        start = first if partition.offset is None else partition.offset
        async for record in self._range(self._names.journal, partition.number, start, end):
            value = record.value or b""
            step = partition.audit.add(value, record.offset)
            if step is not None:
                partition.latest.append(
                    Journaled(
                        seq=step["seq"],
                        offset=record.offset,
                        sha256=hashlib.sha256(value).digest(),
                        decisions=frozenset(one["decision_id"] for one in step.get("decisions", ())),
                    )
                )
                if len(partition.latest) >= COMPARED:
                    await self._compare(partition)
            self._records += 1
            self._progress(self._records)
        await self._compare(partition)
        partition.offset = end

    async def _until_handled(self) -> None:
        """Report inputs that are in no step, after the wait."""
        expected = {partition.number: await self._expected(partition) for partition in self._partitions}

        def behind() -> list[_Partition]:
            return [
                partition
                for partition in self._partitions
                if not partition.audit.stopped
                and any(
                    partition.audit.handled[topic].lacking(offsets[-1:])
                    for topic, offsets in expected[partition.number].items()
                )
            ]

        is_over = _deadline(self._wait_s)
        while (late := behind()) and not is_over():
            await asyncio.sleep(POLL_S)
            for partition in late:
                await self._read(partition)
        for partition in self._partitions:
            if not partition.audit.stopped:
                partition.audit.expect(expected[partition.number])

    async def _expected(self, partition: _Partition) -> dict[str, list[int]]:
        """The inputs that exist and were not handled so far, by topic; a range may also have holes of the broker's."""
        expected = {}
        for topic, name, (first, end) in zip(INPUT_TOPICS, self._names.inputs, partition.bounds, strict=True):
            handled = partition.audit.handled[topic]
            if handled.first is None or handled.last is None:
                # Where the beginning of the journal was cut, these may have been handled in it.
                open_ranges = [range(first, end)] if partition.audit.whole else []
            else:
                head = [range(first, handled.first)] if partition.audit.whole else []
                open_ranges = [*head, *handled.holes, range(handled.last + 1, end)]
            expected[topic] = [
                record.offset
                for one in open_ranges
                async for record in self._range(name, partition.number, max(first, one.start), min(end, one.stop))
            ]
        return expected

    # The database.

    async def _compare(self, partition: _Partition) -> None:
        """Compare the steps read last with their rows; those without a row are looked at once more in the end."""
        latest, partition.latest = partition.latest, []
        async with self._asking:
            found, absent = await asyncio.to_thread(self._stored.compare, partition.number, latest)
        self._problems += found
        partition.absent += absent

    async def _compare_stored(self) -> None:
        wanted = {one.number: one.audit.next_seq - 1 for one in self._partitions if one.audit.steps}
        is_over = _deadline(self._wait_s)
        while True:
            stands = await asyncio.to_thread(self._stored.stands)
            behind = {one: seq - stands.get(one, -1) for one, seq in wanted.items() if stands.get(one, -1) < seq}
            if not behind or is_over():
                break
            await asyncio.sleep(POLL_S)
        for number, lag in behind.items():
            says = f"the last {lag} steps are not in the audit after {self._wait_s:g} s: is a sink running?"
            self._problems.append(Problem(promise="stored", says=says, partition=number))
        for partition in self._partitions:
            steps, partition.absent = partition.absent, []
            for start in range(0, len(steps), COMPARED):
                found, _ = await asyncio.to_thread(
                    self._stored.compare, partition.number, steps[start : start + COMPARED]
                )
                self._problems += found
        rows = await asyncio.to_thread(self._stored.partitions)
        self._problems += await asyncio.to_thread(list, self._stored.problems(list(rows.values())))

    # The outputs.

    async def _compare_published(self) -> None:
        if not all(one.audit.whole and not one.audit.stopped for one in self._partitions):
            self._skip("published", "the journal does not begin at step 0, or a step of it is missing")
            return
        counts = JournalCounts(
            steps=sum(one.audit.steps for one in self._partitions),
            decisions=sum((one.audit.decisions for one in self._partitions), Counter()),
            dead_letters=sum(one.audit.dead_letters for one in self._partitions),
            stopped=sum(one.audit.stopped_work for one in self._partitions),
            ended=sum(one.audit.ended for one in self._partitions),
        )
        topics = {topic: [self._names.of(topic)] for topic in OUTPUT_TOPICS}
        topics[DEAD_LETTERS] = [self._names.dead(topic) for topic in INPUT_TOPICS]
        marks = await self._marks(topics[DEAD_LETTERS])
        is_over = _deadline(self._wait_s)
        while True:
            records = {what: await self._count(of) for what, of in topics.items()}
            if any(gone for gone, _ in records.values()):
                self._skip("published", "retention has taken records from the output topics")
                return
            published = {what: ever - (marks if what == DEAD_LETTERS else 0) for what, (_, ever) in records.items()}
            says = list(agreement.published(counts, published))
            if not says or is_over():
                break
            await asyncio.sleep(POLL_S)
        self._problems += [Problem(promise="published", says=one) for one in says]

    async def _count(self, topics: Iterable[str]) -> tuple[int, int]:
        """Records of some topics that are gone, and all that there ever were."""
        gone = ever = 0
        for topic in topics:
            for partition in self._partitions:
                first, end = await self._broker.bounds(topic, partition.number)
                gone, ever = gone + first, ever + end
        return gone, ever

    async def _marks(self, topics: Iterable[str]) -> int:
        """Records of the dead-letter topics that only say what became of earlier ones."""
        marks = 0
        for topic in topics:
            for partition in self._partitions:
                first, end = await self._broker.bounds(topic, partition.number)
                async for record in self._range(topic, partition.number, first, end):
                    marks += is_mark(record.headers)
        return marks

    async def _range(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
        async with aclosing(self._broker.read(topic, partition, start, end)) as runs:
            async for run in runs:
                for record in run:
                    yield record

    # Deriving again.

    async def _derive(self, partition: _Partition, derive: Derive) -> None:
        if not partition.audit.steps:
            return
        where = f"Partition {partition.number}"
        if partition.audit.stopped:
            self._notes.append(f"{where} was not derived again: a step of its journal is missing.")
            return
        found = await derive(partition.number)
        partition.derived, difference = found.steps, found.difference
        if found.without_inputs:
            self._notes.append(
                f"{where}: {found.without_inputs} steps were not derived again: retention has taken their inputs."
            )
        if found.first_seq:
            self._notes.append(f"{where} was derived again from step {found.first_seq} on.")
        if found.problem is not None:
            self._notes.append(f"{where} was not derived again to its end: {found.problem}")
        elif difference is not None and difference.is_of_rules:
            self._notes.append(
                f"{where} was derived again up to step {difference.seq - 1}: from there on "
                f"{difference.path} {difference.journaled} decided, and here is {difference.derived}. Name the files "
                "with --policy and --catalog."
            )
        elif difference is not None:
            says = f"derived again, {difference.path} is {difference.derived!r}, not {difference.journaled!r}"
            self._problems.append(Problem(promise="derived", says=says, partition=partition.number, seq=difference.seq))
        elif partition.audit.whole:
            await self._compare_state(partition)

    async def _compare_state(self, partition: _Partition) -> None:
        """Compare the newest checkpoint that was read up to with what the journal before it comes to."""
        number = partition.number
        found = await unlike_its_journal(self._broker, self._names, self._rulebook, number, partition.audit.next_seq)
        if found is not None and found[1]:
            says = f"the checkpoint before step {found[0]} has another state than the steps before it give"
            self._problems.append(Problem(promise="state", says=says, partition=number, seq=found[0]))

    # What comes of it.

    def _skip(self, promise: Promise, why: str) -> None:
        del self._checked[promise]
        self._notes.append(f"Not checked: {PROMISES[promise]} For {why}.")

    def _report(self) -> Report:
        for partition in self._partitions:
            if not partition.audit.whole:
                self._notes.append(
                    f"The journal of partition {partition.number} begins at step {partition.audit.first_seq}: what "
                    "stood before is unknown, and was believed when it was first seen."
                )
            self._notes += [
                f"The record at offset {note['skip']} of the journal of partition {partition.number} is none of "
                f"slotwise's, and is skipped: {note['reason']} ({note['by']}, {note['at']})."
                for note in partition.audit.skipped
            ]
        problems = [one for partition in self._partitions for one in partition.audit.problems] + self._problems
        total = sum(one.audit.problems_total for one in self._partitions) + len(self._problems)
        return Report(
            journal=self._stored.journal,
            sound=not problems,
            problems=tuple(problems),
            problems_total=total,
            partitions=tuple(
                PartitionReport(
                    partition=one.number,
                    first_seq=one.audit.first_seq,
                    steps=one.audit.steps,
                    fenced=one.audit.fenced,
                    skipped=len(one.audit.skipped),
                    journal_id=one.audit.journal_id,
                    inputs={topic: handled.count for topic, handled in one.audit.handled.items()},
                    decisions=dict(one.audit.decisions),
                    live_tasks=len(one.audit.tasks),
                    derived=one.derived,
                )
                for one in self._partitions
            ),
            checked=self._checked,
            notes=tuple(self._notes),
        )


def _deadline(wait_s: float) -> Callable[[], bool]:
    """Begin a wait; what comes back says whether it is over."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + wait_s
    return lambda: loop.time() >= end_s
