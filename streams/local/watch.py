"""Follows the journal of an installation, and compares it with its topics and its audit.

A thread of its own does all the waiting; the board and the result read the latest `Counts`. It writes to no topic and
no table.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from importlib import resources
from typing import Any, Final

import psycopg
from kafka import TopicPartition
from msgspec import Struct

from schemas.vocabulary import DECISION_AUDIT, INPUT_TOPICS, OUTPUT_TOPICS
from streams.database.connection import connect
from streams.kafka.blocking import open_consumer
from streams.partition.reader import LOOKBACK_RECORDS
from streams.settings import Settings
from streams.topics import name_in_audit
from streams.views.dead_letters import DeadLetters, StoredRecord
from streams.views.journal_stats import JournalStats

#: How often topics and audit are compared; the journal is read all the time.
COMPARE_EVERY_S: Final = 0.5
POLL_MS: Final = 200
#: Window of the rate of decisions.
RATE_OVER_S: Final = 5.0
#: Suffix of a dead-letter topic's name.
DEAD_LETTER_SUFFIX: Final = ".dlq"


class Counts(Struct, frozen=True, kw_only=True):
    """Records and rows since the watch began, at one time."""

    #: Records by topic.
    records: dict[str, int]
    #: Inputs that no step of the journal has handled yet.
    inputs_unhandled: int
    #: Journal records that were not read when the topics were counted.
    journal_unread: int
    audit_steps: int
    audit_decisions: int
    #: When this comparison began, by the monotonic clock, in seconds.
    began_s: float = 0.0
    #: Whether the topics brought nothing new just before.
    quiet: bool = False


class Watch:
    """Follows the journal of one broker's life. `stats` may be read while holding `lock`."""

    def __init__(self, settings: Settings, *, from_start: bool) -> None:
        self.stats = JournalStats()
        #: Those that came since the watch began; read it while holding `lock`.
        self.dead_letters = DeadLetters()
        self.lock = threading.Lock()
        #: The latest comparison; None until the first.
        self.counts: Counts | None = None
        #: Why the watch cannot read now; None: it can.
        self.trouble: str | None = None
        self._settings = settings
        self._journal = name_in_audit(settings)
        self._from_start = from_start
        self._stop = threading.Event()
        self._began = threading.Event()
        self._asked = threading.Event()
        #: Times and numbers of decisions, of the last seconds; never empty.
        self._rate: list[tuple[float, int]] = [(0.0, 0)]
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self, wait_s_max: float = 10.0) -> None:
        """Start, and return when the start positions are known: records that are written from now on are counted."""
        self._thread.start()
        self._began.wait(wait_s_max)

    def look(self) -> None:
        """Compare at the next opportunity, not only when the pause between comparisons is over."""
        self._asked.set()

    def handled(self) -> dict[tuple[str, int], int]:
        """Return the offset of the last input that a step handled, for every input topic and partition."""
        with self.lock:
            positions = dict(self.stats.positions)
        return {
            (topic, where.partition): positions.get((topic, where.partition), self._starts[where] - 1)
            for topic in INPUT_TOPICS
            for where in self._partitions(topic)
        }

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=5.0)

    def rate_per_s(self) -> float:
        """Return decisions a second, over the last seconds."""
        (since_s, before), (until_s, total) = self._rate[0], self._rate[-1]
        return (total - before) / (until_s - since_s) if until_s > since_s else 0.0

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - the watch must survive every failure of what it watches
                self.trouble = f"{type(error).__name__}: {error}".strip()
                self._stop.wait(1.0)

    def _follow(self) -> None:
        with contextlib.ExitStack() as stack:
            consumer = open_consumer(self._settings)
            stack.callback(consumer.close)
            if not self._began.is_set():
                self._starts = self._ends(consumer, begin=self._from_start)
                self._next = dict(self._starts)
                self._join(consumer)
                self._began.set()
            # All topics are read, not only the journal: Tansu's answer to "where does it end" leaves out the last batch
            # but its first record, so that the others can be counted only by reading them.
            consumer.assign(list(self._next))
            for where, offset in self._next.items():
                consumer.seek(where, offset)
            compared_s = 0.0
            audit: psycopg.Connection[Any] | None = None
            while not self._stop.is_set():
                polled = consumer.poll(timeout_ms=POLL_MS)
                for where, records in polled.items():
                    if where.topic == self._settings.topic_prefix + DECISION_AUDIT:
                        with self.lock:
                            for record in records:
                                self.stats.read(where.partition, record.offset, record.value or b"")
                    elif where.topic.endswith(DEAD_LETTER_SUFFIX):
                        self._take_dead_letters(where.topic, records)
                    self._next[where] = records[-1].offset + 1
                if self._asked.is_set() or time.monotonic() - compared_s >= COMPARE_EVERY_S:
                    self._asked.clear()
                    if audit is None:
                        audit = stack.enter_context(connect(self._settings.database, application="slotwise up"))
                    self._compare(consumer, audit, quiet=not polled)
                    self.trouble = None
                    compared_s = time.monotonic()

    def _take_dead_letters(self, name: str, records: list[Any]) -> None:
        topic = name.removeprefix(self._settings.topic_prefix).removesuffix(DEAD_LETTER_SUFFIX)
        with self.lock:
            for one in records:
                where = (one.partition, one.offset, one.timestamp)
                self.dead_letters.take(StoredRecord(topic, *where, one.key, one.value, tuple(one.headers)))

    def _join(self, consumer: Any) -> None:
        """Read the journal from a little before the counted part, to know the number of the next step."""
        partitions = self._partitions(DECISION_AUDIT)
        first = consumer.beginning_offsets(partitions)
        for where in partitions:
            self.stats.join(where.partition, self._starts[where])
            self._next[where] = max(first[where], self._starts[where] - LOOKBACK_RECORDS)

    def _compare(self, consumer: Any, audit: psycopg.Connection[Any], *, quiet: bool) -> None:
        """Count the topics first: the journal and the audit, read later, must include what they contain."""
        began_s = time.monotonic()
        ends = {where: max(end, self._next[where]) for where, end in self._ends(consumer).items()}
        with self.lock:
            steps_from = {str(partition): str(seq) for partition, seq in self.stats.first_seq.items()}
        unhandled = 0
        for (topic, partition), handled in self.handled().items():
            where = TopicPartition(self._settings.topic_prefix + topic, partition)
            unhandled += max(0, ends[where] - handled - 1)
        named = {"journal": self._journal, "steps_from": json.dumps(steps_from)}
        row = audit.execute(_query(), named).fetchone()
        steps, decisions = row or (0, 0)
        now_s = time.monotonic()
        recent = [point for point in self._rate if point[0] > now_s - RATE_OVER_S]
        self._rate = [*recent, (now_s, self.stats.decisions_total)]
        self.counts = Counts(
            records={
                topic: sum(ends[where] - self._starts[where] for where in self._partitions(topic))
                for topic in self._topics()
            },
            inputs_unhandled=unhandled,
            journal_unread=sum(max(0, ends[where] - self._next[where]) for where in self._partitions(DECISION_AUDIT)),
            audit_steps=steps,
            audit_decisions=decisions,
            began_s=began_s,
            quiet=quiet,
        )

    def _ends(self, consumer: Any, *, begin: bool = False) -> dict[TopicPartition, int]:
        ask = consumer.beginning_offsets if begin else consumer.end_offsets
        found: dict[TopicPartition, int] = {}
        for topic in self._topics():
            # One topic at a time: asked for several, kafka-python 3.0 forgets those whose leader it does not know yet.
            found.update(ask(self._partitions(topic)))
        return found

    def _topics(self) -> list[str]:
        dead = [topic + DEAD_LETTER_SUFFIX for topic in INPUT_TOPICS]
        return [*INPUT_TOPICS, DECISION_AUDIT, *OUTPUT_TOPICS, *dead]

    def _partitions(self, topic: str) -> list[TopicPartition]:
        name = self._settings.topic_prefix + topic
        return [TopicPartition(name, number) for number in range(self._settings.partitions)]


def _query() -> bytes:
    return resources.files("streams.local").joinpath("watch.sql").read_bytes()
