"""Dead letters for people: what stands in the dead-letter topics, what became of each, and which are new. Pure.

A dead letter may be in its topic twice, because it is written at least once; copies are one. It is new until a mark
says that it was replayed or dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from schemas.dead_letter_marks import DeadLetterMark, is_mark, mark_of
from schemas.dead_letters import refused_of
from schemas.record import Headers
from schemas.refusals import RefusedError
from schemas.strict_json import parse_object
from schemas.vocabulary import Millis, from_millis

State: TypeAlias = Literal["new", "replayed", "dropped"]
#: The fields that name what an event is about.
_IDS: Final = ("task_id", "slot_id", "control_id")
_UNITS_S: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


class StoredRecord(Struct, frozen=True):
    """A record of a dead-letter topic; `topic` is the bare name of the input topic."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def address(self) -> str:
        """Topic, partition and offset, by which a person names it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Marked(Struct, frozen=True, kw_only=True):
    """When a dead letter was replayed or dropped, by whom, and why."""

    at: str
    by: str
    because: str


class DeadLetterView(Struct, frozen=True, kw_only=True):
    """One dead letter."""

    #: Its address: input topic, and partition and offset in the dead-letter topic.
    dead_letter: str
    topic: str
    partition: int
    offset: int
    #: When it was written.
    at: str
    age_s: int
    reason: str
    #: Of the task, the slot or the operator's event; None: the value cannot be read.
    id: str | None
    #: The record's key.
    pool: str | None
    #: A task that was given up, not a record that was refused.
    given_up: bool
    #: Where the record was, as `slot.freed[3]@17`; None: not known.
    origin: str | None
    state: State
    #: What became of it; None: it is new.
    marked: Marked | None


class NewDeadLetters(Struct, frozen=True, kw_only=True):
    """The dead letters that are neither replayed nor dropped."""

    count: int = 0
    by_topic: dict[str, int] = {}
    newest: DeadLetterView | None = None

    def sentence(self) -> str:
        """Say what there is and what to do about it; nothing where there is none."""
        if self.newest is None:
            return ""
        many = "1 dead letter is new" if self.count == 1 else f"{self.count} dead letters are new"
        what = f" ({self.newest.id})" if self.newest.id is not None else ""
        return (
            f"{many}; the newest came {age(self.newest.age_s)} ago on {self.newest.topic}{what}: {self.newest.reason} "
            "`slotwise dlq list` shows all; replay or drop them."
        )


class Selection(Struct, frozen=True, kw_only=True):
    """Which dead letters are meant; what is not said excludes none."""

    topic: str | None = None
    #: A part of the reason, in any case.
    reason: str | None = None
    since_ms: int | None = None
    state: State | None = None

    def takes(self, one: DeadLetterView, at_ms: int) -> bool:
        """Whether it is among them."""
        return (
            self.topic in (None, one.topic)
            and (self.reason is None or self.reason.casefold() in one.reason.casefold())
            and (self.since_ms is None or at_ms >= self.since_ms)
            and self.state in (None, one.state)
        )


class _Entry:
    """A dead letter, its copies, and its latest mark."""

    __slots__ = ("given_up", "id", "mark", "offsets", "origin", "pool", "reason", "record_at")

    def __init__(self, record: StoredRecord) -> None:
        refused = refused_of(record.headers)
        fields = _fields(record.value)
        self.given_up = fields.keys() == {"task", "story"} and isinstance(fields["task"], dict)
        event: dict[str, Any] = fields["task"] if self.given_up else fields
        self.id = next((event[name] for name in _IDS if isinstance(event.get(name), str)), None)
        self.pool = None if record.key is None else record.key.decode(errors="backslashreplace")
        self.reason = refused.reason or "It says no reason: something other than slotwise wrote it."
        self.origin: str | None = None
        if refused.topic is not None and refused.offset is not None and refused.offset >= 0:
            self.origin = f"{refused.topic}[{refused.partition}]@{refused.offset}"
        self.record_at = (record.topic, record.partition, record.offset, record.timestamp)
        self.offsets = [record.offset]
        self.mark: DeadLetterMark | None = None

    def view(self, now_ms: int) -> DeadLetterView:
        """Return it as it is now."""
        topic, partition, offset, at_ms = self.record_at
        mark = self.mark
        return DeadLetterView(
            dead_letter=f"{topic}/{partition}/{offset}",
            topic=topic,
            partition=partition,
            offset=offset,
            at=from_millis(at_ms),
            age_s=max(0, now_ms - at_ms) // 1000,
            reason=self.reason,
            id=self.id,
            pool=self.pool,
            given_up=self.given_up,
            origin=self.origin,
            state="new" if mark is None else mark.mark,
            marked=None if mark is None else Marked(at=mark.at, by=mark.by, because=mark.because),
        )


class DeadLetters:
    """Collects the records of dead-letter topics: those of one partition in their order."""

    def __init__(self) -> None:
        self._entries: dict[tuple[object, ...], _Entry] = {}
        #: By address, copies too.
        self._at: dict[str, _Entry] = {}

    def take(self, record: StoredRecord) -> None:
        """Add a dead letter, or what a mark says of earlier ones."""
        if is_mark(record.headers):
            mark = mark_of(record.value)
            for offset in () if mark is None else mark.offsets:
                marked = self._at.get(f"{record.topic}/{record.partition}/{offset}")
                if marked is not None:
                    marked.mark = mark
            return
        refused = refused_of(record.headers)
        what = (record.topic, record.partition, refused.topic, refused.offset, record.key, hash(record.value))
        # Without its place a record is no copy of any other.
        identity = what if refused.offset is not None else (*what, record.offset)
        entry = self._entries.get(identity)
        if entry is None:
            entry = self._entries[identity] = _Entry(record)
        else:
            entry.offsets.append(record.offset)
        self._at[record.address] = entry

    def views(self, now_ms: Millis, selection: Selection | None = None) -> list[DeadLetterView]:
        """Return those of a selection, the newest first."""
        selection = selection or Selection()
        entries = sorted(self._entries.values(), key=lambda one: (-one.record_at[3], one.record_at))
        views = ((entry.view(now_ms), entry.record_at[3]) for entry in entries)
        return [view for view, at_ms in views if selection.takes(view, at_ms)]

    def find(self, address: str, now_ms: Millis) -> DeadLetterView | None:
        """Return the one at an address, or the one that it is a copy of."""
        entry = self._at.get(address)
        return None if entry is None else entry.view(now_ms)

    def offsets(self, view: DeadLetterView) -> tuple[int, ...]:
        """Return the offsets of a dead letter and its copies."""
        return tuple(self._at[view.dead_letter].offsets)

    def new(self, now_ms: Millis, pool: str | None = None) -> NewDeadLetters:
        """Return what is new, of one pool or of all."""
        entries = [one for one in self._entries.values() if one.mark is None and pool in (None, one.pool)]
        newest = max(entries, key=lambda one: one.record_at[3], default=None)
        return NewDeadLetters(
            count=len(entries),
            by_topic=dict(sorted(Counter(one.record_at[0] for one in entries).items())),
            newest=None if newest is None else newest.view(now_ms),
        )


def age(seconds: int) -> str:
    """Say a span in its largest unit: `3 min`."""
    for unit, size_s in _UNITS_S:
        if seconds >= size_s:
            return f"{seconds // size_s} {unit}"
    return f"{seconds} s"


def _fields(value: bytes | None) -> dict[str, Any]:
    try:
        return parse_object(value or b"")
    except RefusedError:
        return {}


def collected(records: Iterable[StoredRecord]) -> DeadLetters:
    """Collect records."""
    found = DeadLetters()
    for record in records:
        found.take(record)
    return found
