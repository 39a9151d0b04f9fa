"""Sends events from JSON lines: each is read as the router will read it, keyed by its pool, and confirmed.

A line that the router would refuse is not sent but reported, with its number and the reason. The value of a record is
the line itself, unknown fields included; a byte order mark before the first line is passed over. An operator's event
without a pool goes, without a key, to every partition.
"""

from __future__ import annotations

import uuid
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from kafka.errors import KafkaError
from msgspec import Struct

from schemas.codec import fields_of, headers_of, read_event, read_value
from schemas.dead_letters import DeadTask
from schemas.input import Unreadable
from schemas.refusals import RefusedError
from schemas.strict_json import parse_object
from schemas.vocabulary import FLEET_CONTROL, SLOT_FREED, TASK_PENDING, Millis, from_millis
from streams.clock import SystemClock
from streams.errors import UNREACHABLE, SlotwiseError
from streams.kafka.blocking import open_producer
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.operate.known_names import Known

Kind = Literal["task", "slot", "control"]
TOPICS: Final[dict[Kind, str]] = {"task": TASK_PENDING, "slot": SLOT_FREED, "control": FLEET_CONTROL}
SOURCE: Final = "/slotwise/send"
#: A record that the broker does not confirm in this time counts as not sent.
CONFIRM_S_MAX: Final = 30.0
REFUSALS_SHOWN_MAX: Final = 20


class SendError(SlotwiseError):
    """The broker did not take a record; the message says which line it was, so that the rest can be sent again."""

    exit_code = UNREACHABLE


class Refusal(Struct, frozen=True):
    """A line that was not sent."""

    line: int
    reason: str


class Sent(Struct, kw_only=True):
    """The result of sending."""

    topic: str
    lines: int = 0
    #: Lines that the broker confirmed.
    sent: int = 0
    #: Records: more than lines where a line goes to every partition.
    records: int = 0
    refused: int = 0
    #: The first refused lines.
    refusals: list[Refusal] = []
    #: The first lines with a name that means nothing; they are sent, unless they are to be refused.
    notes: list[Refusal] = []


def send(
    settings: Settings,
    kind: Kind,
    lines: Iterable[bytes],
    *,
    stamp: bool = False,
    known: Known | None = None,
    strict: bool = False,
    progress: Callable[[int], None] = lambda _lines: None,
) -> Sent:
    """Send every line that is an event of that kind; `stamp` fills in a missing `at` with now.

    With `known`, a line that the router would refuse or ignore by its state is refused, and a name that means nothing
    is noted; with `strict` a line with such a name is refused as well.

    A task that was given up, as `task.pending.dlq` has it with its history, is sent as the task, and with `stamp` its
    `at` is now: what is sent again after its end is done again.

    Raises:
        SendError: the broker did not confirm a record.
    """
    topic = TOPICS[kind]
    sent = Sent(topic=topic)
    producer = open_producer(settings)
    confirmations: list[tuple[int, list[Any]]] = []
    try:
        for number, line in enumerate(lines, start=1):
            value = (line.removeprefix(BOM_UTF8) if number == 1 else line).strip()
            if not value:
                continue
            sent.lines += 1
            found = task_given_up(value, stamp=stamp) if kind == "task" else value
            records = records_of(settings, topic, found, stamp=stamp) if isinstance(found, bytes) else found
            if known is not None and not isinstance(records, Unreadable):
                records = _known(known, topic, records, sent, number, strict=strict)
            if isinstance(records, Unreadable):
                sent.refused += 1
                if len(sent.refusals) < REFUSALS_SHOWN_MAX:
                    sent.refusals.append(Refusal(number, records.reason))
            else:
                confirmations.append((number, [producer.send(**record) for record in records]))
            progress(number)
        for number, futures in confirmations:
            for future in futures:
                _confirm(future, number, settings)
            sent.sent += 1
            sent.records += len(futures)
    finally:
        producer.close(timeout=CONFIRM_S_MAX)
    return sent


def records_of(
    settings: Settings, topic: str, value: bytes, *, stamp: bool = False, ce_id: str | None = None, source: str = SOURCE
) -> list[Any] | Unreadable:
    """Return the records of one value, as arguments of the producer; or the reason why the router would refuse it.

    With `stamp` an `at` that is missing is put in front of the fields; all else stays as it was written.
    """
    now_ms = SystemClock().now_ms()
    try:
        fields = fields_of(value)
    except RefusedError as refusal:
        return Unreadable(str(refusal))
    if stamp and fields and "at" not in fields:
        at = from_millis(now_ms)
        value, fields = b'{"at":"%s",%s' % (at.encode(), value.lstrip()[1:]), {"at": at, **fields}
    event = read_value(topic, value, fields)
    if isinstance(event, Unreadable):
        return event
    headers = list(headers_of(topic, ce_id=ce_id or str(uuid.uuid4()), source=source, time_ms=now_ms))
    common = {"topic": settings.topic_prefix + topic, "value": value, "headers": headers}
    if event.pool is not None:
        # The default partitioner: murmur2 of the key, as everywhere.
        return [{**common, "key": event.pool.encode()}]
    return [{**common, "partition": partition} for partition in range(settings.partitions)]


def _known(
    known: Known, topic: str, records: list[Any], sent: Sent, number: int, *, strict: bool
) -> list[Any] | Unreadable:
    """Return the records, or why they are not sent; note the names that mean nothing."""
    value = records[0]["value"]
    fields = parse_object(value)
    event = read_event(topic, records[0].get("key"), value, ())
    if isinstance(event, Unreadable):
        return event
    refusal = known.refusal(event)
    if refusal is not None:
        return Unreadable(refusal)
    notes = list(known.notes(event, fields))
    if notes and strict:
        return Unreadable(" ".join(notes))
    sent.notes += [Refusal(number, note) for note in notes][: REFUSALS_SHOWN_MAX - len(sent.notes)]
    return records


def task_given_up(line: bytes, *, stamp: bool) -> bytes | Unreadable:
    """Return the task of a dead letter of a task that was given up; any other line as it is.

    One that would be ignored as a duplicate, because its `at` is from before its end, is refused.
    """
    try:
        fields = parse_object(line)
        if fields.keys() != {"task", "story"}:
            return line
        # The fields as they are written: a payload's numbers must come out as they went in.
        dead = msgspec.json.decode(line, type=DeadTask[dict[str, msgspec.Raw]])
    except (RefusedError, msgspec.DecodeError):
        return line
    if stamp:
        return at_present(dead.task)
    ended_ms = max((entry.at_ms for entry in dead.history), default=Millis(0))
    if str(fields["task"].get("at", "")) <= from_millis(ended_ms):
        return Unreadable("field at: from before the task was given up, so it would be ignored; send it with --now.")
    return msgspec.json.encode(dead.task)


def at_present(fields: Mapping[str, msgspec.Raw]) -> bytes:
    """Return an event with the present as its `at`; all else stays as it was written."""
    now = msgspec.Raw(b'"%s"' % from_millis(SystemClock().now_ms()).encode())
    return msgspec.json.encode({**fields, "at": now})


def _confirm(future: Any, line: int, settings: Settings) -> None:
    try:
        future.get(timeout=CONFIRM_S_MAX)
    except KafkaError as error:
        raise SendError(
            f"The broker at {settings.broker} did not take line {line} ({error}): send again from that line on; "
            "what was sent twice is recognised by its id."
        ) from error
