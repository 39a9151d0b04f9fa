"""How far every reader of the topics is behind, as plain values: in records, in seconds, and how fast it catches up.

Pure: `operate/lag.py` looks, and two looks make a report. *Seconds behind* is the time of the newest record less that
of the first record that is not read: how much of the topic's time is unread, whatever this machine's clock says. The
*age* of that first record is by this machine's clock; it grows while a reader stands still, also where nothing new
comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from schemas.vocabulary import from_millis
from streams.views.units import span

#: Who reads: workers read their inputs; the others, of which `lines` are sinks into files, read the journal.
Reader: TypeAlias = Literal["worker", "publisher", "tables", "sink", "lines", "shadow"]
#: Where its position stands in truth: in the journal, in committed offsets, in the audit.
Basis: TypeAlias = Literal["journal", "committed", "audit"]

#: The same for people.
BASES: Final[dict[Basis, str]] = {"journal": "the journal", "committed": "its commits", "audit": "Postgres"}
#: A reader that is no later than this keeps up, whatever its rates were between two looks.
KEEPS_UP_S: Final = 2.0

_WHO: Final = {
    "worker": "The worker",
    "publisher": "The publisher",
    "tables": "The agent of the tables",
    "sink": "The sink",
}


class Source(Struct, frozen=True, kw_only=True):
    """One reader of one topic."""

    reader: Reader
    #: Its consumer group; of a worker and a sink it only shares out partitions.
    group: str
    #: As it is called on the broker.
    topic: str
    basis: Basis


class Reading(Struct, frozen=True, kw_only=True):
    """One partition of a source, as one look found it. Times are those of records, in ms since the epoch."""

    #: Offset of the first record that is not read.
    position: int
    #: Offsets that the topic holds: the first, and the one that comes next.
    first: int
    end: int
    #: Time of the first record that is not read and is still there; None: all is read.
    unread_ms: int | None = None
    #: Time of the newest record; None: there is none.
    newest_ms: int | None = None


class Look(Struct, frozen=True, kw_only=True):
    """All sources at one time."""

    #: By the clock of this machine, in ms since the epoch.
    at_ms: int
    #: The same by the monotonic clock, in s, for rates.
    at_s: float
    readings: Mapping[Source, Mapping[int, Reading]]
    #: Why the position of a source is not known.
    troubles: Mapping[Source, str] = {}


class Progress(Struct, frozen=True, kw_only=True):
    """How far a reader is behind."""

    #: Records that are not read.
    records: int
    #: Time of the newest record less that of the first that is not read; 0 at the end.
    seconds: float
    #: Age of the first record that is not read, by this machine's clock; 0 at the end.
    age_s: float
    #: Records that retention removed before they were read.
    expired: int
    #: Records a second that came, and that were read, between two looks; None: there was one look only.
    in_per_s: float | None
    out_per_s: float | None
    #: When all is read at these rates; 0 at the end; None: never, or not known without rates.
    drain_s: float | None

    @property
    def late_s(self) -> float:
        """How late it is: seconds behind, or the age of the first unread record where that is more."""
        return max(self.seconds, self.age_s)


class PartitionLag(Progress, frozen=True, kw_only=True):
    """One partition."""

    partition: int
    #: Offset of the first record that is not read, and of the record that comes next.
    position: int
    end: int


class ReaderLag(Progress, frozen=True, kw_only=True):
    """One reader of one topic: sums of records and rates over its partitions, and the worst of its times."""

    reader: Reader
    group: str
    topic: str
    basis: Basis
    partitions: tuple[PartitionLag, ...]


class UnknownLag(Struct, frozen=True, kw_only=True):
    """A reader whose position is not known now."""

    reader: Reader
    group: str
    topic: str
    basis: Basis
    #: Why, in a sentence.
    trouble: str


class LagReport(Struct, frozen=True, kw_only=True):
    """All readers."""

    at: str
    #: Time between the two looks that the rates are of; None: there was one look only.
    interval_s: float | None
    #: All in one sentence.
    says: str
    readers: tuple[ReaderLag, ...]
    unknown: tuple[UnknownLag, ...]


def report(now: Look, before: Look | None = None) -> LagReport:
    """Return what a look shows; with an earlier one also the rates since then."""
    interval_s = now.at_s - before.at_s if before is not None else None
    earlier: Mapping[Source, Mapping[int, Reading]] = before.readings if before is not None else {}
    readers = tuple(
        _reader(source, readings, now.at_ms, earlier.get(source, {}), interval_s)
        for source, readings in now.readings.items()
    )
    unknown = tuple(
        UnknownLag(reader=source.reader, group=source.group, topic=source.topic, basis=source.basis, trouble=trouble)
        for source, trouble in now.troubles.items()
    )
    return LagReport(
        at=from_millis(now.at_ms),
        interval_s=round(interval_s, 3) if interval_s is not None else None,
        says=_sentence(readers, unknown),
        readers=readers,
        unknown=unknown,
    )


def beyond(found: LagReport, *, records_max: int | None, seconds_max: float | None) -> Iterator[str]:
    """Return a sentence for each reader that is further behind than allowed; its age counts as seconds do."""
    for one in found.readers:
        if records_max is not None and one.records > records_max:
            yield f"{name_of(one)} is {one.records} records behind, more than {records_max}."
        if seconds_max is not None and one.late_s > seconds_max:
            yield f"{name_of(one)} is {one.late_s:.1f} s behind, more than {seconds_max:g} s."


def name_of(one: ReaderLag | UnknownLag) -> str:
    """Name a reader for people."""
    who = _WHO.get(one.reader, f"The {'shadow' if one.reader == 'shadow' else 'sink'} of the group {one.group}")
    return f"{who} reading {one.topic}"


def drained_in(one: Progress) -> str:
    """Say when a reader has read all, at its rates: `-` at the end, `?` without rates."""
    if one.drain_s is not None:
        return span(one.drain_s) if one.records else "-"
    return "?" if one.out_per_s is None else "never at this rate"


def drain_s(records: int, in_per_s: float | None, out_per_s: float | None) -> float | None:
    """Return when so many records are read at these rates; None: never, or the rates are not known."""
    if not records:
        return 0.0
    if in_per_s is None or out_per_s is None or out_per_s <= in_per_s:
        return None
    return records / (out_per_s - in_per_s)


def _reader(
    source: Source,
    readings: Mapping[int, Reading],
    at_ms: int,
    before: Mapping[int, Reading],
    interval_s: float | None,
) -> ReaderLag:
    partitions = tuple(
        _partition(number, one, at_ms, before.get(number), interval_s) for number, one in sorted(readings.items())
    )
    drains = [one.drain_s for one in partitions]
    return ReaderLag(
        reader=source.reader,
        group=source.group,
        topic=source.topic,
        basis=source.basis,
        records=sum(one.records for one in partitions),
        seconds=max((one.seconds for one in partitions), default=0.0),
        age_s=max((one.age_s for one in partitions), default=0.0),
        expired=sum(one.expired for one in partitions),
        in_per_s=_sum(one.in_per_s for one in partitions),
        out_per_s=_sum(one.out_per_s for one in partitions),
        # All is read when the last partition is; partitions do not help each other.
        drain_s=None if None in drains else max((one for one in drains if one is not None), default=0.0),
        partitions=partitions,
    )


def _partition(number: int, one: Reading, at_ms: int, before: Reading | None, interval_s: float | None) -> PartitionLag:
    records = max(0, one.end - max(one.position, one.first))
    seconds = age_s = 0.0
    if records and one.unread_ms is not None:
        seconds = max(0, (one.newest_ms or one.unread_ms) - one.unread_ms) / 1000
        age_s = max(0, at_ms - one.unread_ms) / 1000
    in_per_s = out_per_s = None
    if before is not None and interval_s:
        # A topic that was made again, or an offset that was set back, is no negative rate.
        in_per_s = max(0, one.end - before.end) / interval_s
        out_per_s = max(0, one.position - before.position) / interval_s
    return PartitionLag(
        partition=number,
        position=one.position,
        end=one.end,
        records=records,
        seconds=seconds,
        age_s=age_s,
        expired=max(0, one.first - one.position),
        in_per_s=in_per_s,
        out_per_s=out_per_s,
        drain_s=drain_s(records, in_per_s, out_per_s),
    )


def _sum(rates: Iterable[float | None]) -> float | None:
    found = list(rates)
    return None if not found or None in found else sum(one for one in found if one is not None)


def _sentence(readers: Iterable[ReaderLag], unknown: Iterable[UnknownLag]) -> str:
    behind = [one for one in readers if one.records]
    lacking = [f"{name_of(one)} is not known: {one.trouble}" for one in unknown]
    if not behind:
        return " ".join(["Nothing that is known is behind." if lacking else "Nothing is behind.", *lacking])
    worst = max(behind, key=lambda one: (one.age_s, one.records))
    many = "1 record" if worst.records == 1 else f"{worst.records} records"
    return " ".join([f"{name_of(worst)} is furthest behind: {many}, the oldest {worst.age_s:.1f} s old.", *lacking])
