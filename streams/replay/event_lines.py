"""Files of bare events, a JSON object a line: those that `slotwise send` takes, and records as exports write them.

A line is a task, a slot's report or an operator's event; which of them, its fields say. Lines of all files are put in
the order of their times; a line that names none comes with the line before it. A slot comes with its first report that
names a model and goes with `leaving`. Its other reports follow from choices that the file does not have: they are left
out, but for outcomes that say how long the work took.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas.codec import fields_of, read_value
from schemas.events import Event, PolicyActivated, SlotFreed, TaskPending, Tick
from schemas.input import Unreadable
from schemas.refusals import RefusedError
from schemas.vocabulary import FLEET_CONTROL, SLOT_FREED, TASK_PENDING, Millis, from_millis, to_millis
from streams.errors import MISTAKE, SlotwiseError
from streams.replay.recorded_files import InputLine, bytes_of
from streams.replay.recording import Key, Occurrence
from streams.replay.sent import End, occurrence_of
from streams.replay.work_seen import WorkSeen, work_kind

#: When a file begins that says no time at all: 2026-11-21T10:00:00.000Z.
BEGIN_MS: Final = Millis(1_795_255_200_000)
_MISTAKES_MAX: Final = 20
_RECORD: Final = msgspec.json.Decoder(InputLine)


class EventsError(SlotwiseError):
    """Lines are no events, or none of them can be replayed; the message names them."""

    exit_code = MISTAKE


class Events(Struct, frozen=True, kw_only=True):
    """What files of events hold."""

    #: What came from without, in the order of time.
    occurrences: list[Occurrence]
    #: Work whose outcome says how long it took (`latency_s`).
    ended: list[WorkSeen]
    #: Whether slots come.
    has_slots: bool
    #: Reports of slots that no line announces.
    unannounced: int


class _Line(Struct):
    """A line of a file; `at_ms` is None where it says no time."""

    number: int
    at_ms: Millis | None
    value: bytes = b""
    fields: dict[str, Any] = {}
    #: Already read, of a record.
    occurrence: Occurrence | None = None


def read_events(files: Mapping[str, Iterable[bytes]]) -> Events:
    """Read the lines of files by their names.

    Raises:
        EventsError: a line is no event, or no line is a task.
    """
    mistakes: list[str] = []
    found: list[Occurrence] = []
    for name, lines in files.items():
        wrong: list[tuple[int, str]] = []
        found += _occurrences(_in_time([*_lines(lines, wrong)]), wrong)
        mistakes += [f"{name} line {number}: {reason}" for number, reason in sorted(wrong)]
    if mistakes:
        more = len(mistakes) - _MISTAKES_MAX
        raise EventsError(
            "\n".join(
                [
                    "These lines are no events, and nothing was replayed: mend them, or leave them out.",
                    *mistakes[:_MISTAKES_MAX],
                    *([f"And {more:,} more."] if more > 0 else []),
                ]
            )
        )
    if not any(isinstance(one.event, TaskPending) for one in found):
        raise EventsError(f"There is no task in {', '.join(files)}: a task is a line with `task_id` and `pool`.")
    return _taken(sorted(found, key=lambda one: one.at_ms))


def _lines(lines: Iterable[bytes], wrong: list[tuple[int, str]]) -> Iterator[_Line]:
    for number, raw in enumerate(lines, start=1):
        line = (raw.removeprefix(BOM_UTF8) if number == 1 else raw).strip()
        if not line:
            continue
        try:
            read = _line(number, line)
        except RefusedError as refusal:
            wrong.append((number, str(refusal)))
            continue
        if read is not None:
            yield read


def _line(number: int, line: bytes) -> _Line | None:
    """Read a line; None: it ends what was sent to a replay.

    Raises:
        RefusedError: it is no event.
    """
    fields = fields_of(line)
    if "value" in fields and "pool" not in fields:
        try:
            record = _RECORD.decode(line)
        except msgspec.DecodeError as error:
            raise RefusedError(f"as a record of a topic: {error}.") from None
        headers = tuple((key, bytes_of(content) or b"") for key, content in record.headers)
        value = bytes_of(record.value)
        if "ce_type" in dict(headers):
            read = occurrence_of(bytes_of(record.key), value, headers, record.at_ms)
            if isinstance(read, Unreadable):
                raise RefusedError(read.reason)
            return None if isinstance(read, End) else _Line(number, read.at_ms, occurrence=read)
        return _Line(number, Millis(record.at_ms), value or b"", fields_of(value))
    at = fields.get("at")
    try:
        at_ms = to_millis(at) if isinstance(at, str) else None
    except ValueError:
        at_ms = None  # its own refusal says it better
    return _Line(number, at_ms, line, fields)


def _in_time(lines: list[_Line]) -> list[_Line]:
    """Give each line a time: its own, that of the line before it, or at the begin that of the first that has one."""
    at_ms = next((one.at_ms for one in lines if one.at_ms is not None), BEGIN_MS)
    for one in lines:
        at_ms = one.at_ms = at_ms if one.at_ms is None else one.at_ms
    return lines


def _occurrences(lines: Iterable[_Line], wrong: list[tuple[int, str]]) -> Iterator[Occurrence]:
    for one in lines:
        at_ms = one.at_ms if one.at_ms is not None else BEGIN_MS
        if one.occurrence is not None:
            yield one.occurrence
            continue
        event = _event(one, from_millis(at_ms))
        if isinstance(event, Unreadable):
            wrong.append((one.number, event.reason))
        else:
            yield Occurrence(at_ms, event)


def _event(one: _Line, at: str) -> Event | Unreadable:
    value, fields = one.value, one.fields
    if "kind" in fields:
        topic = FLEET_CONTROL
    elif "slot_id" in fields:
        topic = SLOT_FREED
    elif "task_id" in fields:
        topic = TASK_PENDING
    else:
        return Unreadable("it has no `task_id` of a task, no `slot_id` of a slot and no `kind` of an operator's event.")
    if "at" not in fields:
        value, fields = b'{"at":"%s",%s' % (at.encode(), value.lstrip()[1:]), {"at": at, **fields}
    return read_value(topic, value, fields)


def _taken(found: list[Occurrence]) -> Events:
    """Divide what was read, in the order of time, into what comes from without and what work took."""
    models: dict[Key, str] = {}
    tasks: dict[Key, TaskPending] = {}
    attempts: Counter[Key] = Counter()
    occurrences: list[Occurrence] = []
    ended: list[WorkSeen] = []
    unannounced, has_slots = 0, False
    for one in found:
        event = one.event
        if isinstance(event, PolicyActivated | Tick):
            continue
        if isinstance(event, TaskPending):
            tasks[event.pool, event.task_id] = event
        if not isinstance(event, SlotFreed):
            occurrences.append(one)
            continue
        key = (event.pool, event.slot_id)
        if key not in models and event.model is not None and event.state != "leaving":
            models[key], has_slots = event.model, True
            announces = SlotFreed(
                slot_id=event.slot_id, pool=event.pool, at=event.at, model=event.model, account=event.account
            )
            occurrences.append(Occurrence(one.at_ms, announces))
        elif key not in models:
            unannounced += 1
            continue
        if event.outcome is not None and event.outcome.latency_s is not None:
            place = (event.pool, event.outcome.task_id)
            task = tasks.get(place)
            attempt = attempts[place] + (task.attempt if task is not None else 1)
            attempts[place] += 1
            kind = work_kind(task) if task is not None else ""
            taken_ms = max(1, round(1000 * event.outcome.latency_s))
            ended.append(WorkSeen(*place, attempt, kind, models[key], taken_ms, event.outcome))
        if event.state == "leaving":
            del models[key]
            occurrences.append(
                Occurrence(one.at_ms, SlotFreed(slot_id=event.slot_id, pool=event.pool, at=event.at, state="leaving"))
            )
    return Events(occurrences=occurrences, ended=ended, has_slots=has_slots, unannounced=unannounced)
