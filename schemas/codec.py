"""Decodes and encodes events: strict about known fields, tolerant of unknown ones.

This file owns the form of an event on the wire. It knows no rule of routing and keeps no state. A record that it cannot
read becomes an `Unreadable` with a sentence for the sender; no input makes it raise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from schemas.event_fields import TIME_FIELDS
from schemas.events import (
    OUTPUTS,
    Event,
    FleetControl,
    ModelExhausted,
    ModelRestored,
    Output,
    SlotFreed,
    TaskPending,
    TaskRouted,
    Tick,
)
from schemas.input import Unreadable
from schemas.integral import with_integers
from schemas.record import Headers, Record
from schemas.refusals import ECHO_CHARS_MAX, RefusedError, describe, explain, no_moment, quote
from schemas.strict_json import parse_object
from schemas.vocabulary import (
    FLEET_CONTROL,
    INPUT_TOPICS,
    MOMENT_PATTERN,
    SLOT_FREED,
    TASK_PENDING,
    TASK_ROUTED,
    from_millis,
)

#: Largest value we read.
VALUE_BYTES_MAX: Final = 262_144
#: The version of the wire contract; a record of another major version is refused.
MAJOR: Final = 1


def ce_type(topic: str) -> str:
    """Return the event type as CloudEvents spells it."""
    return f"slotwise.{topic}.v{MAJOR}"


_DECODERS: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    TASK_PENDING: msgspec.json.Decoder(TaskPending),
    SLOT_FREED: msgspec.json.Decoder(SlotFreed),
    FLEET_CONTROL: msgspec.json.Decoder(FleetControl),
}
_OUTPUTS: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    topic: msgspec.json.Decoder(struct) for topic, struct in OUTPUTS.items()
}
_KINDS: Final = {topic: msgspec.inspect.type_info(decoder.type) for topic, decoder in _DECODERS.items()}
#: Kinds that name a product, or a model as a way to name its product.
_OF_A_PRODUCT: Final = (ModelExhausted, ModelRestored)
_CE_TYPES: Final = {topic: ce_type(topic).encode() for topic in INPUT_TOPICS}
_ENCODER: Final = msgspec.json.Encoder()
_is_moment: Final = re.compile(MOMENT_PATTERN).match


def read_event(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Event | Unreadable:
    """Read one record of an input topic; `topic` is its bare name, without an installation's prefix.

    Never raises for the content of a record: one that cannot be read is returned as `Unreadable` with its reason.
    """
    try:
        event = _decode(topic, value, headers)
        _agree(event, key)
    except RefusedError as refusal:
        return Unreadable(str(refusal))
    return event


def fields_of(value: bytes | None) -> dict[str, Any]:
    """Return the fields of an event's value, before it is known whether they are those of an event.

    Raises:
        RefusedError: there is no value, or it is too large or no clean JSON.
    """
    return parse_object(_of_size(value))


def read_value(topic: str, value: bytes, fields: dict[str, Any]) -> Event | Unreadable:
    """Read the value of a record that is still to be made, whose key will be the pool that it names.

    `fields` is what `fields_of` returned for it. Refused is what `read_event` would refuse of that record.
    """
    try:
        event = _decode(topic, value, (), fields)
        _agree(event, None if event.pool is None else event.pool.encode())
    except RefusedError as refusal:
        return Unreadable(str(refusal))
    return event


def headers_of(
    topic: str,
    *,
    ce_id: str,
    source: str,
    time_ms: int,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of an event's record: CloudEvents 1.0 in binary mode."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", ce_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", ce_type(topic).encode()),
        ("ce_time", from_millis(time_ms).encode()),
        ("content-type", b"application/json"),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
        if tracestate is not None:
            headers.append(("tracestate", tracestate.encode()))
    return tuple(headers)


def read_output(topic: str, value: bytes | None) -> Output | Unreadable:
    """Read one record of an output topic, as dispatchers and producers do; `topic` is its bare name.

    Never raises for the content of a record. A payload comes as text, with each number as it was written.
    """
    try:
        if topic == TASK_ROUTED and b'"payload"' in (value or b""):
            value = _with_payload_as_text(value or b"")
        event: Output = _OUTPUTS[topic].decode(value or b"")
    except msgspec.DecodeError as error:
        return Unreadable(f"no {topic} of this version: {error}")
    return event


def write_event(
    topic: str,
    event: Event | Output,
    *,
    ce_id: str,
    source: str,
    time_ms: int,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Record:
    """Make the record of an event: CloudEvents 1.0 in binary mode, keyed by pool (no pool: no key)."""
    headers = headers_of(
        topic, ce_id=ce_id, source=source, time_ms=time_ms, traceparent=traceparent, tracestate=tracestate
    )
    return Record(
        key=None if event.pool is None else event.pool.encode(),
        value=encode_event(event),
        headers=headers,
    )


def encode_event(event: Event | Output) -> bytes:
    """Return the value of an event's record."""
    if not isinstance(event, TaskPending | TaskRouted) or event.payload is None:
        return _ENCODER.encode(event)
    return b'%b,"payload":%b}' % (_ENCODER.encode(replace(event, payload=None))[:-1], event.payload.encode())


def _with_payload_as_text(value: bytes) -> bytes:
    """Make the payload of a task the text that `TaskPending` holds: every value in it as it was written."""
    parts = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    if "payload" not in parts:
        return value
    text = msgspec.json.format(bytes(parts["payload"]), indent=-1).decode()
    return msgspec.json.encode(parts | {"payload": msgspec.Raw(msgspec.json.encode(text))})


def _decode(topic: str, value: bytes | None, headers: Headers, fields: dict[str, Any] | None = None) -> Event:
    # 1. Is there a value, of a size and a version that we read?
    decoder = _DECODERS.get(topic)
    if decoder is None:
        raise RefusedError(f"topic: {quote(topic)} is none of the input topics {', '.join(INPUT_TOPICS)}.")
    value = _of_size(value)
    for name, content in headers:
        if name == "ce_type" and content != _CE_TYPES[topic]:
            _check_type(topic, content)
    # 2. Is it clean JSON, unambiguous in every part?
    fields = parse_object(value) if fields is None else fields
    if "schema_version" in fields:
        _check_version(fields["schema_version"])
    if topic == TASK_PENDING and fields.get("payload") is not None:
        value = _with_payload_as_text(value)
    # 3. Is it an event of this topic?
    try:
        event: Event = decoder.decode(value)
    except msgspec.DecodeError:
        # Strictly first, because that is quick, and nearly every record is written so.
        try:
            event = decoder.decode(with_integers(value, fields, _KINDS[topic]))
        except msgspec.DecodeError as error:
            raise RefusedError(explain(str(error), fields)) from None
    return event


def _agree(event: Event, key: bytes | None) -> None:
    # 4. Do its fields agree with each other and with the key?
    _check_times(event)
    _check_key(event, key)
    if isinstance(event, SlotFreed) and event.state != "free":
        _check_state(event)
    if isinstance(event, _OF_A_PRODUCT) and event.product is None and event.model is None:
        raise RefusedError("field product: missing, and so is field model; one of the two says what is meant.")


def _of_size(value: bytes | None) -> bytes:
    if not value:
        raise RefusedError("value: the record has none; send one JSON object.")
    if len(value) > VALUE_BYTES_MAX:
        raise RefusedError(f"value: has {len(value)} bytes; at most {VALUE_BYTES_MAX} are read.")
    return value


def _check_type(topic: str, content: bytes | None) -> None:
    """Refuse another major version and another topic's event; a type that is not slotwise's is ignored."""
    text = "" if content is None else content.decode(errors="backslashreplace")
    if not text.startswith("slotwise."):
        return
    match = re.fullmatch(r"slotwise\.([a-z_.]{1,64})\.v(\d{1,6})(\.\d{1,6})?", text, re.ASCII)
    if match is None or match[1] != topic:
        raise RefusedError(f"header ce_type: {quote(text)} is no event of this topic; expected {ce_type(topic)}.")
    if int(match[2]) != MAJOR:
        raise RefusedError(
            f"header ce_type: {quote(text)} is version {int(match[2])} of the wire contract; "
            f"this slotwise reads version {MAJOR} and guesses at no other."
        )


def _check_version(version: object) -> None:
    """Accept 1 in any notation and any minor version of it; an absent or null version is 1."""
    if version is None or (isinstance(version, str) and re.fullmatch(r"1(\.([0-9]{1,6}|x)){0,2}", version)):
        return
    # `True` is an int in Python, but no version.
    if isinstance(version, int | float) and not isinstance(version, bool) and MAJOR <= version < MAJOR + 1:
        return
    raise RefusedError(
        f"field schema_version: {describe(version)} is not version {MAJOR} of the wire contract; "
        f"this slotwise reads {MAJOR} and its minor versions, and guesses at no other."
    )


def _check_times(event: Event) -> None:
    for path in TIME_FIELDS[type(event)]:
        text: Any = event
        for name in path:
            text = None if text is None else getattr(text, name)
        if text is not None and _is_moment(text) is None:
            raise RefusedError(f"field {'.'.join(path)}: {no_moment(text)}")


def _check_state(event: SlotFreed) -> None:
    """A slot that works on names its lease, one that is idle or leaving has none, and none of them has an outcome."""
    if event.state == "working" and event.lease is None:
        raise RefusedError("field lease: missing; a slot that is `working` names the lease that it renews.")
    if event.state in ("idle", "leaving") and event.lease is not None:
        raise RefusedError(
            f"field lease: a slot that is `{event.state}` has none; at the end of its work it is `free`."
        )
    if event.outcome is not None:
        raise RefusedError(
            f"field outcome: a slot that is `{event.state}` has none; at the end of its work it is `free`."
        )


def _check_key(event: Event, key: bytes | None) -> None:
    if key and event.pool is not None and key == event.pool.encode():
        return
    if not key:
        if event.pool is None or isinstance(event, Tick):
            return
        raise RefusedError(f"key: missing; send the pool as the key, here {quote(event.pool)}.")
    text = key[: ECHO_CHARS_MAX * 4].decode(errors="backslashreplace")
    if event.pool is None:
        raise RefusedError(
            f"key: {quote(text)}, but the value names no pool; what concerns all pools is sent without a key, "
            "to every partition."
        )
    half = ECHO_CHARS_MAX // 2
    raise RefusedError(
        f"field pool: {quote(event.pool, half)} is not the record's key {quote(text, half)}; "
        "the key decides the partition, so the two must agree."
    )
