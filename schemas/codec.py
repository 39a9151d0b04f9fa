"""Bytes to events and back: strict about what is said, tolerant of what is added, and never surprised.

This file owns the form of a record on the wire. It knows no rule of routing and keeps no state. What it cannot
read becomes an `Unreadable` with a sentence for the person who sent it; no input makes it raise. A valid event
passes two parsers written by different hands: orjson sees all of the value, what we ignore included, and msgspec
what we know. The exact searches (which key stands twice? is this NUL real?) run only when a cheap one is alarmed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias, TypeVar, get_args

import msgspec
import orjson
from msgspec import Struct

from schemas.decision import STEP_VERSION, Step
from schemas.events import (
    Event,
    FleetControl,
    ModelExhausted,
    ModelRestored,
    SlotFreed,
    TaskAwaitSlot,
    TaskPending,
    TaskRouted,
    Tick,
)
from schemas.input import Unreadable
from schemas.vocabulary import (
    FLEET_CONTROL,
    ID_PATTERN,
    INPUT_TOPICS,
    SLOT_FREED,
    TASK_PENDING,
    TIME_PATTERN,
    from_millis,
)

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]

#: Largest value we read.
VALUE_BYTES_MAX: Final = 262_144
#: Deepest nesting of objects and arrays, the record itself counted.
DEPTH_MAX: Final = 32
#: The version of the wire contract that we speak; a record of another one is not guessed at.
MAJOR: Final = 1
#: Most characters of input that a refusal repeats.
ECHO_CHARS_MAX: Final = 80
#: Most bytes of its own headers that a record takes along to the dead-letter topic.
HEADERS_BYTES_MAX: Final = 16_384


class Record(Struct, frozen=True):
    """One record as a producer sends it."""

    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class StepError(Exception):
    """A record of the journal is no step that this version can read; the message says why."""


class _RefusedError(Exception):
    """Carries the sentence of a refusal up to `read_event`."""


def ce_type(topic: str) -> str:
    """Name an event type as CloudEvents spells it."""
    return f"slotwise.{topic}.v{MAJOR}"


_DECODERS: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    TASK_PENDING: msgspec.json.Decoder(TaskPending),
    SLOT_FREED: msgspec.json.Decoder(SlotFreed),
    FLEET_CONTROL: msgspec.json.Decoder(FleetControl),
}
#: Kinds that name a product, or a model as a way to name its product.
_OF_A_PRODUCT: Final = (ModelExhausted, ModelRestored)
_CE_TYPES: Final = {topic: ce_type(topic).encode() for topic in INPUT_TOPICS}
_ENCODER: Final = msgspec.json.Encoder()


def read_event(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Event | Unreadable:
    """Read one record of an input topic; `topic` is its bare name, without an installation's prefix.

    Never raises for what a record holds: what cannot be read comes back as `Unreadable` with its reason.
    """
    try:
        return _read(topic, key, value, headers)
    except _RefusedError as refusal:
        return Unreadable(str(refusal))


def write_event(
    topic: str,
    event: Event | TaskRouted | TaskAwaitSlot,
    *,
    ce_id: str,
    source: str,
    time_ms: int,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Record:
    """Make the record of an event: CloudEvents 1.0 in binary mode, keyed by pool (no pool: no key)."""
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
    return Record(
        key=None if event.pool is None else event.pool.encode(),
        value=_ENCODER.encode(event),
        headers=tuple(headers),
    )


# --- The trace a record belongs to -----------------------------------------------------------------------------

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]{1,200})?"
)
_TRACESTATE: Final = re.compile(rb"[\x20-\x7e]{1,512}")
_TRACEPARENT_LENGTH: Final = 55
_TRACESTATE_MEMBERS_MAX: Final = 32


def trace_of(headers: Headers) -> tuple[str | None, str | None]:
    """Give the W3C trace context of a record: (traceparent, tracestate), None for what is absent or invalid.

    A later version of the format is read as version 00, as W3C asks; without a valid traceparent a tracestate
    means nothing.
    """
    parent: bytes | None = None
    state: bytes | None = None
    for name, content in headers:
        if name == "traceparent":
            parent = content
        elif name == "tracestate":
            state = content
    if parent is None or not _TRACEPARENT.fullmatch(parent):
        return None, None
    if parent.startswith(b"00-"):
        if len(parent) != _TRACEPARENT_LENGTH:
            return None, None
        traceparent = parent.decode()
    else:
        traceparent = "00" + parent[2:_TRACEPARENT_LENGTH].decode()
    return traceparent, _tracestate(state)


def _tracestate(state: bytes | None) -> str | None:
    if state is None or not _TRACESTATE.fullmatch(state):
        return None
    members = [member.strip() for member in state.split(b",")]
    if len(members) > _TRACESTATE_MEMBERS_MAX or any(member and b"=" not in member for member in members):
        return None
    return state.decode()


# --- Steps of the journal --------------------------------------------------------------------------------------

_STEPS: Final = msgspec.json.Decoder(Step)
_Part = TypeVar("_Part", bound=Struct)
#: A default is left out of what we write; the version never is, whoever reads must see it first.
_STEP_START: Final = b'{"v":%d,' % STEP_VERSION


class _Versioned(Struct, frozen=True):
    v: int


def encode_step(step: Step) -> bytes:
    """Write a step as the value of a journal record; its version comes first."""
    body = _ENCODER.encode(step)
    return body if step.v != STEP_VERSION else _STEP_START + body[1:]


def decode_step(raw: bytes) -> Step:
    """Read the value of a journal record.

    Raises:
        StepError: the record is of another version, or no step at all.
    """
    return decode_step_by(_STEPS, raw)


def decode_step_by(decoder: msgspec.json.Decoder[_Part], raw: bytes) -> _Part:
    """Read a part of a step: the fields that the decoder's struct names; the others are skipped, which is quicker.

    Raises:
        StepError: the record is of another version, or no step at all.
    """
    try:
        if not raw.startswith(_STEP_START):
            version = msgspec.json.decode(raw, type=_Versioned).v
            if version != STEP_VERSION:
                raise StepError(
                    f"This step has version {version}; this slotwise reads version {STEP_VERSION}. "
                    "Read the journal with the slotwise that wrote it, or a newer one."
                )
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StepError(
            f"This journal record is no step ({_clip(ascii(str(error))[1:-1], ECHO_CHARS_MAX)}). "
            "Something other than slotwise wrote to the journal's topic, or the record is damaged."
        ) from None


# --- Dead letters ----------------------------------------------------------------------------------------------

_ERRORS: Final = "__streams.errors."
_OURS: Final = "slotwise."


def dead_letter_headers(
    topic: str,
    partition: int,
    offset: int,
    reason: str,
    headers: Headers = (),
    *,
    attempt: int | None = None,
    version: str | None = None,
) -> tuple[tuple[str, bytes], ...]:
    """Say why a record is a dead letter and where it came from, under the names of KIP-1034.

    The record's own headers (`headers`) come first, up to `HEADERS_BYTES_MAX`; what an earlier dead-lettering
    wrote is replaced. `version` is that of the slotwise that gave up, `attempt` the task's last one.
    """
    kept: list[tuple[str, bytes]] = []
    room = HEADERS_BYTES_MAX
    dropped = 0
    for name, content in headers:
        if name.startswith((_ERRORS, _OURS)):
            continue
        room -= len(name.encode()) + len(content or b"")
        if room < 0:
            dropped += 1
        else:
            kept.append((name, content or b""))
    said = {
        _ERRORS + "exception": Unreadable.__name__,
        _ERRORS + "message": reason,
        _ERRORS + "topic": topic,
        _ERRORS + "partition": str(partition),
        _ERRORS + "offset": str(offset),
    }
    if attempt is not None:
        said[_OURS + "attempt"] = str(attempt)
    if version is not None:
        said[_OURS + "version"] = version
    if dropped:
        said[_OURS + "headers_dropped"] = str(dropped)
    return (*kept, *((name, text.encode(errors="backslashreplace")) for name, text in said.items()))


def dead_letter_value(raw: bytes | None, bytes_max: int) -> tuple[bytes | None, tuple[tuple[str, bytes], ...]]:
    """Cut a value to what the dead-letter topic takes; the extra headers tell its real size and SHA-256."""
    if raw is None or len(raw) <= bytes_max:
        return raw, ()
    return raw[:bytes_max], (
        (_OURS + "value_bytes", str(len(raw)).encode()),
        (_OURS + "value_sha256", hashlib.sha256(raw).hexdigest().encode()),
    )


# --- Reading an event, and the checks in the order of use ------------------------------------------------------


def _read(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Event:
    # 1. Is there a value, of a size and a version that we read?
    decoder = _DECODERS.get(topic)
    if decoder is None:
        raise _RefusedError(f"topic: {_echo(topic)} is none of the input topics {', '.join(INPUT_TOPICS)}.")
    if not value:
        raise _RefusedError("value: the record has none; send one JSON object.")
    if len(value) > VALUE_BYTES_MAX:
        raise _RefusedError(f"value: has {len(value)} bytes; at most {VALUE_BYTES_MAX} are read.")
    for name, content in headers:
        if name == "ce_type" and content != _CE_TYPES[topic]:
            _check_type(topic, content)
    # 2. Is it clean JSON, unambiguous in every part?
    fields = _parse(value)
    if "schema_version" in fields:
        _check_version(fields["schema_version"])
    # 3. Does it say what an event of this topic says?
    try:
        event: Event = decoder.decode(value)
    except msgspec.DecodeError as error:
        raise _RefusedError(_explain(str(error), fields)) from None
    # 4. What no single field can tell.
    _check_times(event)
    _check_key(event, key)
    if isinstance(event, _OF_A_PRODUCT) and event.product is None and event.model is None:
        raise _RefusedError("field product: missing, and so is field model; one of the two says what is meant.")
    return event


def _check_type(topic: str, content: bytes | None) -> None:
    """Refuse another major version, or another topic's event; a type that is not ours says nothing to us."""
    text = "" if content is None else content.decode(errors="backslashreplace")
    if not text.startswith("slotwise."):
        return
    match = re.fullmatch(r"slotwise\.([a-z_.]{1,64})\.v(\d{1,6})(\.\d{1,6})?", text, re.ASCII)
    if match is None or match[1] != topic:
        raise _RefusedError(f"header ce_type: {_echo(text)} is no event of this topic; expected {ce_type(topic)}.")
    if int(match[2]) != MAJOR:
        raise _RefusedError(
            f"header ce_type: {_echo(text)} is version {int(match[2])} of the wire contract; "
            f"this slotwise reads version {MAJOR} and guesses at no other."
        )


def _check_version(version: object) -> None:
    """Take 1 in any notation, and any minor version of it; an absent or null version is ours."""
    if version is None or (isinstance(version, str) and re.fullmatch(r"1(\.([0-9]{1,6}|x)){0,2}", version)):
        return
    # `True` is an int to Python, and no version to anyone.
    if isinstance(version, int | float) and not isinstance(version, bool) and MAJOR <= version < MAJOR + 1:
        return
    raise _RefusedError(
        f"field schema_version: {_describe(version)} is not version {MAJOR} of the wire contract; "
        f"this slotwise reads {MAJOR} and its minor versions, and guesses at no other."
    )


_SPACE_AFTER_QUOTE: Final = re.compile(rb'"[ \n\t\r]')


def _parse(value: bytes) -> dict[str, Any]:
    """Parse a value that is one clean JSON object; refuse what two readers could read in two ways."""
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise _RefusedError(_explain_json(value, error)) from None
    if type(fields) is not dict:
        raise _RefusedError(f"value: is {_describe(fields)}, not one JSON object.")
    if value.count(b"{") + value.count(b"[") > DEPTH_MAX and _is_deep(fields):
        raise _RefusedError(f"value: objects and arrays are nested deeper than {DEPTH_MAX}.")
    # Every key is followed by `":`, unless there is space between the two. So where no quote is followed by space,
    # as many `":` as keys means that no key stands twice. Text may hold a `":` too: then look exactly.
    if value.count(b'":') != _count_keys(fields) or _SPACE_AFTER_QUOTE.search(value):
        _check_keys(value)
    if b"\\" in value and any("\0" in text for text in _texts(fields)):
        raise _RefusedError("value: holds the character NUL (\\u0000), which no database column takes.")
    return fields


def _count_keys(fields: dict[str, Any]) -> int:
    keys = len(fields)
    for child in fields.values():
        if type(child) is dict:
            keys += _count_keys(child)
        elif type(child) is list:
            keys += sum(_count_keys(item) for item in _objects(child))
    return keys


def _objects(items: list[Any]) -> Iterator[dict[str, Any]]:
    for item in items:
        if type(item) is dict:
            yield item
        elif type(item) is list:
            yield from _objects(item)


def _is_deep(fields: dict[str, Any]) -> bool:
    level: list[Any] = [fields]
    for _ in range(DEPTH_MAX):
        level = [child for parent in level for child in _children(parent) if type(child) in (dict, list)]
    return bool(level)


def _children(parent: dict[str, Any] | list[Any]) -> Iterator[Any]:
    return iter(parent.values() if isinstance(parent, dict) else parent)


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        yield from node
        for child in node.values():
            yield from _texts(child)
    elif isinstance(node, list):
        for child in node:
            yield from _texts(child)


def _check_keys(value: bytes) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> None:
        seen = set()
        for name, _ in pairs:
            if name in seen:
                raise _RefusedError(f"field {_echo(name)}: stands twice in one object; it is unclear which one counts.")
            seen.add(name)

    # Numbers are known to be fine; as text they cost nothing and meet no limit of Python.
    json.loads(value, object_pairs_hook=unique, parse_int=str, parse_float=str)


def _check_times(event: Event) -> None:
    for name in _TIMES[type(event)]:
        text = getattr(event, name)
        if text is None:
            continue
        try:
            datetime.fromisoformat(text)
            real = text[11:13] < "24"  # some Pythons read 24:00 as the next day, some refuse it; all shall agree
        except ValueError:
            real = False
        if not real:
            raise _RefusedError(f"field {name}: {_echo(text)} has the form of a time, but there is no such moment.")


def _check_key(event: Event, key: bytes | None) -> None:
    if key and event.pool is not None and key == event.pool.encode():
        return
    if not key:
        if event.pool is None or isinstance(event, Tick):
            return
        raise _RefusedError(f"key: missing; send the pool as the key, here {_echo(event.pool)}.")
    text = key[: ECHO_CHARS_MAX * 4].decode(errors="backslashreplace")
    if event.pool is None:
        raise _RefusedError(
            f"key: {_echo(text)}, but the value names no pool; what concerns all pools is sent without a key, "
            "to every partition."
        )
    half = ECHO_CHARS_MAX // 2
    raise _RefusedError(
        f"field pool: {_echo(event.pool, half)} is not the record's key {_echo(text, half)}; "
        "the key decides the partition, so the two must agree."
    )


# --- Sentences for refusals ------------------------------------------------------------------------------------


def _structs(kind: msgspec.inspect.Type) -> Iterator[msgspec.inspect.StructType]:
    if isinstance(kind, msgspec.inspect.StructType):
        yield kind
        for field in kind.fields:
            yield from _structs(field.type)
    elif isinstance(kind, msgspec.inspect.UnionType):
        for member in kind.types:
            yield from _structs(member)


def _leaves(kind: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    if isinstance(kind, msgspec.inspect.UnionType):
        for member in kind.types:
            yield from _leaves(member)
    elif isinstance(kind, msgspec.inspect.DictType):
        yield from _leaves(kind.key_type)
    elif isinstance(kind, msgspec.inspect.Metadata):
        yield from _leaves(kind.type)
    else:
        yield kind


_STRUCTS: Final = tuple(s for kind in msgspec.inspect.multi_type_info(get_args(Event)) for s in _structs(kind))
#: The fields of each event that hold a time.
_TIMES: Final[Mapping[type, tuple[str, ...]]] = {
    struct.cls: tuple(
        field.name
        for field in struct.fields
        if any(getattr(leaf, "pattern", None) == TIME_PATTERN for leaf in _leaves(field.type))
    )
    for struct in _STRUCTS
}
#: The closed list of each field that has one, for the sentence that refuses another word.
_CHOICES: Final[Mapping[str, tuple[object, ...]]] = {
    field.name: leaf.values
    for struct in _STRUCTS
    for field in struct.fields
    for leaf in _leaves(field.type)
    if isinstance(leaf, msgspec.inspect.LiteralType)
} | {"kind": tuple(struct.tag for struct in _STRUCTS if struct.tag_field == "kind")}
#: What a pattern asks for, in words.
_FORMS: Final[Mapping[str, str]] = {
    ID_PATTERN: "1 to 128 letters, digits or . _ : -",
    TIME_PATTERN: "a time like 2026-11-21T10:00:00.000Z (RFC 3339, in UTC, with Z)",
}


def _explain(message: str, fields: dict[str, Any]) -> str:
    """Say in our words what msgspec found wrong; its own may repeat any amount of input."""
    if " - at " not in message:
        message += " - at `$`"
    problem, _, path = message.rpartition(" - at ")
    names = re.findall(r"[a-z_]+|\d+", path.rpartition("$")[2])
    missing = re.fullmatch(r"Object missing required field `(\w+)`", problem)
    if missing is not None:
        return f"field {'.'.join([*names, missing[1]])}: required, and missing."
    field = "value" if not names else f"field {'.'.join(names)}"
    if path.startswith("`key` in"):
        field = f"a key of {field}"
    allowed = next((_CHOICES[name] for name in reversed(names) if name in _CHOICES), ())
    if problem.startswith("Invalid"):
        wanted = f"one of {', '.join(map(str, allowed))}"
    else:
        wanted = problem.partition(", got")[0].removeprefix("Expected ").replace("`", "").replace(" | null", "")
        pattern = re.search(r"matching regex '(.*)'", wanted)
        if pattern is not None:
            wanted = _FORMS[pattern[1].replace("\\\\", "\\")]
    found = _at(fields, names)
    if path.startswith("`key` in") and isinstance(found, dict):
        found = next(key for key in found if key not in allowed)
    elif path.endswith("[...]`"):
        return f"{field}: expected every value to be {wanted}."
    return f"{field}: expected {wanted}, found {_describe(found)}."


def _at(fields: dict[str, Any], names: list[str]) -> object:
    found: Any = fields
    for name in names:
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found


def _explain_json(value: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as bad:
        return f"value: byte {bad.start} ({value[bad.start]:#04x}) is not UTF-8."
    if error.msg.startswith("depth"):
        return f"value: objects and arrays are nested deeper than {DEPTH_MAX}."
    near = text[error.pos : error.pos + 40]
    if error.msg.startswith("number is infinity") or re.match(r"-?(NaN|Inf)", near):
        return f"value: numbers must be finite, and at character {error.pos} stands {_echo(near, 40)}."
    where = f", where {_echo(near, 40)} stands" if near else ""
    return f"value: is not JSON; {error.msg} at character {error.pos}{where}."


def _describe(found: object) -> str:
    if isinstance(found, dict):
        return "an object"
    if isinstance(found, list):
        return f"an array of {len(found)}"
    if isinstance(found, str):
        return _echo(found)
    return json.dumps(found)


def _echo(text: str, chars_max: int = ECHO_CHARS_MAX) -> str:
    """Quote input, safe for a terminal and a log: ASCII only, and short."""
    quoted = ascii(text[:chars_max])
    inner = quoted[1:-1] + text[chars_max:][:1]  # one more, so that a cut shows
    return quoted[0] + _clip(inner, chars_max) + quoted[0]


def _clip(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 3] + "..."
