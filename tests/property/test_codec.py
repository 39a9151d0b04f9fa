"""Reading any record gives an event or a sentence; a written event is read as the same."""

from __future__ import annotations

import json
from typing import Any, get_args

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect
from msgspec.structs import replace

from schemas.codec import encode_event, read_event, write_event
from schemas.decision import STEP_VERSION, Step
from schemas.events import FleetControl, ModelExhausted, ModelRestored, SlotFreed, TaskPending
from schemas.input import Unreadable
from schemas.json_schema import json_schema
from schemas.steps import decode_step, encode_step
from schemas.trace import trace_of
from schemas.vocabulary import (
    DECISION_AUDIT,
    FLEET_CONTROL,
    INPUT_TOPICS,
    LAST_MS,
    REF_PATTERN,
    SLOT_FREED,
    TASK_PENDING,
    TIME_PATTERN,
    from_millis,
)

#: NUL and surrogates are refused, wherever they stand.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
ID_CHARACTERS = st.sampled_from("abzABZ019._:-")
TIMES = st.integers(0, LAST_MS).map(from_millis)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(CHARACTERS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(CHARACTERS), inner, max_size=3),
    max_leaves=8,
)


def compact(value: Any) -> str:
    """Give JSON as text, as it is between two slotwises."""
    return json.dumps(value, separators=(",", ":"))


def plain(event: Any) -> tuple[Any, Any]:
    """Give an event without its payload, and the payload's value: two texts may stand for one."""
    payload = getattr(event, "payload", None)
    return (event, None) if payload is None else (msgspec.structs.replace(event, payload=None), json.loads(payload))


def values_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Give the values that a field of a struct can have, read off the struct itself."""
    values: st.SearchStrategy[Any]
    match kind:
        case inspect.Metadata(extra_json_schema={"contentMediaType": "application/json"}):
            values = JSON.filter(lambda value: value is not None).map(compact)
        case inspect.Metadata(type=inner):
            values = values_of(inner)
        case inspect.UnionType(types=kinds):
            values = st.one_of(*map(values_of, kinds))
        case inspect.VarTupleType(item_type=item):
            values = st.lists(values_of(item), max_size=4).map(tuple)
        case inspect.TupleType(item_types=items):
            values = st.tuples(*map(values_of, items))
        case inspect.DictType(key_type=key, value_type=value):
            values = st.dictionaries(values_of(key), values_of(value), max_size=4)
        case inspect.StructType(cls=cls, fields=fields):
            needed = {field.name: values_of(field.type) for field in fields if field.required}
            optional = {field.name: values_of(field.type) for field in fields if not field.required}
            values = st.fixed_dictionaries(needed, optional=optional).map(lambda said: cls(**said))
        case _:
            values = plain_values_of(kind)
    return values


def plain_values_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Give the values of a type that holds no other."""
    values: st.SearchStrategy[Any]
    match kind:
        case inspect.NoneType():
            values = st.none()
        case inspect.BoolType():
            values = st.booleans()
        case inspect.LiteralType(values=words):
            values = st.sampled_from(words)
        case inspect.IntType(ge=low, le=high):
            values = st.integers(-(2**63) if low is None else low, 2**63 - 1 if high is None else high)
        case inspect.FloatType(ge=low, le=high):
            values = st.floats(low, high, allow_nan=False, allow_infinity=False)
        case inspect.StrType(pattern=pattern) if pattern == REF_PATTERN:
            values = st.text(st.sampled_from("az09:/?#[]@!$&'()*+,;=-._~"), min_size=1, max_size=40)
        case inspect.StrType(pattern=None, min_length=low, max_length=high):
            values = st.text(CHARACTERS, min_size=low or 0, max_size=min(high or 40, 40))
        case inspect.StrType(pattern=pattern):
            values = TIMES if pattern == TIME_PATTERN else st.text(ID_CHARACTERS, min_size=1, max_size=128)
        case _:
            assert isinstance(kind, inspect.RawType), f"no values are known for {kind}"
            values = st.just(msgspec.Raw(b'{"opus":{"gate":"ok"}}'))
    return values


def structs(cls: type) -> st.SearchStrategy[Any]:
    """Give the events of one struct."""
    events = values_of(inspect.type_info(cls))
    if cls in (ModelExhausted, ModelRestored):
        return events.filter(lambda event: event.product is not None or event.model is not None)
    return events.map(agreeing) if cls is SlotFreed else events


def agreeing(event: SlotFreed) -> SlotFreed:
    """Give the report with what its state needs, and without what it rules out."""
    if event.state == "free":
        return event
    return replace(event, outcome=None, lease=(event.lease or 0) if event.state == "working" else None)


TOPICS = {TaskPending: TASK_PENDING, SlotFreed: SLOT_FREED} | dict.fromkeys(get_args(FleetControl), FLEET_CONTROL)
EVENTS = st.one_of(*map(structs, TOPICS))

STEPS = jsonschema.Draft202012Validator(json_schema(DECISION_AUDIT))
FIELDS = sorted({field for struct in TOPICS for field in struct.__struct_fields__} | {"kind", "schema_version"})
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["ce_type", "traceparent", "tracestate", "x"]),
        st.none() | st.binary(max_size=60) | st.from_regex(rb"slotwise\.task\.pending\.v[0-9]\Z"),
    ),
    max_size=4,
)
ANYTHING = st.one_of(
    st.none(),
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    # Known names with values of any kind: what a mistaken producer sends.
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6).map(lambda value: json.dumps(value).encode()),
)


@given(st.sampled_from(INPUT_TOPICS), st.none() | st.binary(max_size=20), ANYTHING, HEADERS)
def test_whatever_arrives_is_read_or_refused(topic: str, key: bytes | None, value: bytes | None, headers: Any) -> None:
    """No bytes make the reader raise."""
    outcome = read_event(topic, key, value, headers)
    assert isinstance(outcome, (Unreadable, TaskPending, SlotFreed, *get_args(FleetControl)))
    trace_of(headers)


@given(EVENTS, st.sampled_from(FIELDS), JSON)
def test_one_field_of_any_kind_is_read_or_refused_with_a_sentence(event: Any, field: str, value: Any) -> None:
    """A sentence is found for every way in which one field can be wrong."""
    record = json.loads(encode_event(event)) | {field: value}
    key = None if event.pool is None else event.pool.encode()
    outcome = read_event(TOPICS[type(event)], key, json.dumps(record).encode(), ())
    if isinstance(outcome, Unreadable):
        assert outcome.reason.isascii()
        assert outcome.reason.isprintable()
        assert outcome.reason.endswith(".")


@given(EVENTS, st.data())
def test_a_damaged_record_is_read_or_refused(event: Any, data: st.DataObject) -> None:
    """A flipped, lost or repeated byte anywhere makes no reader fall over."""
    value = bytearray(encode_event(event))
    at = data.draw(st.integers(0, len(value) - 1))
    value[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    read_event(TOPICS[type(event)], b"main", bytes(value), ())


@given(EVENTS, st.integers(0, 4_000_000_000_000))
def test_a_written_event_is_read_the_same(event: Any, time_ms: int) -> None:
    """Writing and reading are each other's inverse."""
    topic = TOPICS[type(event)]
    record = write_event(topic, event, ce_id="e", source="s", time_ms=time_ms)
    assert read_event(topic, record.key, record.value, record.headers) == event


@pytest.mark.rule("wire.closed_lists")
@given(EVENTS, st.text(CHARACTERS).filter(lambda name: name not in FIELDS), JSON)
def test_an_unknown_field_changes_nothing(event: Any, name: str, value: Any) -> None:
    """Producers may add fields before we know them."""
    topic = TOPICS[type(event)]
    key = None if event.pool is None else event.pool.encode()
    record = {name: value} | json.loads(encode_event(event)) | {"schema_version": "1.9"}
    for text in (json.dumps(record), json.dumps(record, indent=1, separators=(" ,", " : "), ensure_ascii=False)):
        assert plain(read_event(topic, key, text.encode(), ())) == plain(event)


@given(values_of(inspect.type_info(Step)).map(lambda step: msgspec.structs.replace(step, v=STEP_VERSION)))
def test_a_written_step_is_read_the_same(step: Step) -> None:
    """The journal gives back what was put into it, and its schema gives the layout."""
    raw = encode_step(step)
    assert encode_step(decode_step(raw)) == raw
    STEPS.validate(json.loads(raw))
