"""Records are read strictly, refused with a sentence, and written as they are read."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, get_args

import pytest

from schemas.codec import VALUE_BYTES_MAX, encode_event, read_event, read_output, write_event
from schemas.dead_letters import HEADERS_BYTES_MAX, dead_letter_headers, dead_letter_value
from schemas.decision import Accepted, Percentiles, Rejected, Step
from schemas.event_fields import TIME_FIELDS
from schemas.events import Control, ModelExhausted, Output, TaskPending, TaskRouted, Tick
from schemas.examples import EXAMPLES
from schemas.input import Unreadable
from schemas.json_schema import TOPICS
from schemas.record import Headers
from schemas.refusals import ECHO_CHARS_MAX
from schemas.steps import StepError, decode_step, encode_step
from schemas.strict_json import DEPTH_MAX
from schemas.trace import trace_of
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, OUTPUT_TOPICS, TASK_PENDING, TASK_ROUTED, Millis

if TYPE_CHECKING:
    from schemas.events import Event

AT = "2026-11-21T10:00:00.000Z"
TASK = {"task_id": "t-17", "pool": "main", "at": AT}
EXHAUSTED = {"kind": "model.exhausted", "control_id": "c-1", "at": AT, "by": "ops", "product": "claude", "until": AT}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def task(**fields: Any) -> bytes:
    """Make the value of a task that names only what matters."""
    return json.dumps(TASK | fields).encode()


def task_with(raw: bytes) -> bytes:
    """Make the value of a task that ends with these raw members."""
    return json.dumps(TASK).encode()[:-1] + b"," + raw + b"}"


def control(**fields: Any) -> bytes:
    """Make the value of a control; None leaves a field out."""
    return json.dumps({name: value for name, value in (EXHAUSTED | fields).items() if value is not None}).encode()


def read(value: bytes | None, key: bytes | None = b"main", headers: Headers = (), topic: str = TASK_PENDING) -> Any:
    """Read a record, as a rule of pool main."""
    return read_event(topic, key, value, headers)


def reason(outcome: Event | Unreadable) -> str:
    """Give the sentence of a refusal."""
    assert isinstance(outcome, Unreadable), f"was read: {outcome}"
    return outcome.reason


# --- What is refused ---

POISON: dict[str, tuple[bytes | None, str]] = {
    "no value": (None, "value: the record has none"),
    "an empty value": (b"", "value: the record has none"),
    "bad JSON": (b'{"task_id": t-17}', "value: is not JSON; "),
    "JSON that stops": (b'{"task_id":"t"', "value: is not JSON; unexpected end of data at character 14."),
    "two documents": (task() + b"{}", "value: is not JSON; unexpected content"),
    "a byte order mark": (b"\xef\xbb\xbf" + task(), "value: is not JSON"),
    "an array": (b"[1]", "value: is an array of 1, not one JSON object"),
    "a number": (b"17", "value: is 17, not one JSON object"),
    "NaN": (task_with(b'"ev":NaN'), "numbers must be finite, and at character"),
    "Infinity": (task_with(b'"ev":Infinity'), "numbers must be finite"),
    "minus Infinity": (task_with(b'"ev":-Infinity'), "numbers must be finite"),
    "NaN in a field we do not know": (task_with(b'"color":NaN'), "numbers must be finite"),
    "1e400": (task_with(b'"ev":1e400'), "numbers must be finite"),
    "10^400 in digits": (task_with(b'"priority":1' + b"0" * 400), "numbers must be finite"),
    "10^400 in a field we do not know": (task_with(b'"color":1' + b"0" * 400), "numbers must be finite"),
    "an integer of 30 digits": (task_with(b'"input_tokens":' + b"9" * 30), "field input_tokens: expected int"),
    "depth 10,000, never closed": (b"[" * 10_000, "nested deeper than 32"),
    "depth 10,000": (task_with(b'"x":' + b"[" * 10_000 + b"]" * 10_000), "nested deeper than 32"),
    "one level too many": (task_with(b'"x":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX), "nested deeper than 32"),
    "a raw NUL": (task_with(b'"title":"a\x00b"'), "value: is not JSON; unexpected control character"),
    "an escaped NUL": (task_with(b'"title":"a\\u0000b"'), "holds the character NUL"),
    "an escaped NUL where we do not look": (task_with(b'"x":[{"y\\u0000":1}]'), "holds the character NUL"),
    "a lone high surrogate": (task_with(b'"title":"\\ud800"'), "value: is not JSON; no low surrogate"),
    "a lone low surrogate": (task_with(b'"title":"\\udc00"'), "value: is not JSON; invalid high surrogate"),
    "a surrogate in UTF-8": (task_with(b'"title":"\xed\xa0\x80"'), "is not UTF-8"),
    "invalid UTF-8": (task_with(b'"title":"\xff"'), "(0xff) is not UTF-8"),
    "invalid UTF-8 where we do not look": (task_with(b'"x":"\xff"'), "(0xff) is not UTF-8"),
    "a duplicate key": (task_with(b'"priority":1,"priority":99'), "field 'priority': stands twice"),
    "a duplicate key, one with space": (task_with(b'"priority" :1,"priority":99'), "field 'priority': stands twice"),
    "a duplicate key, one with tab": (task_with(b'"priority"\t:1,"priority":99'), "field 'priority': stands twice"),
    "a duplicate key, one escaped": (task_with(b'"ev":1,"\\u0065v":2'), "field 'ev': stands twice"),
    "a duplicate key we do not know": (task_with(b'"x":1,"x":1'), "field 'x': stands twice"),
    "a duplicate key in an object": (task_with(b'"requires":{"coding":1,"coding":9}'), "field 'coding': stands twice"),
    "a duplicate key in a list": (task_with(b'"x":[[{"y":1,"y":1}]]'), "field 'y': stands twice"),
    "no task_id": (b'{"pool":"main","at":"%s"}' % AT.encode(), "field task_id: required, and missing"),
    "a wrong type": (task(task_id=17), "field task_id: expected str, found 17."),
    "null where a text must be": (task(pool=None), "field pool: expected str, found null."),
    "true for a number": (task(priority=True), "field priority: expected int, found true."),
    "a text for a number": (task(ev="3.2"), "field ev: expected float, found '3.2'."),
    "a priority of 101": (task(priority=101), "field priority: expected int <= 100, found 101."),
    "an unknown complexity": (task(complexity="epic"), "field complexity: expected one of complex, expert, simple"),
    "an unknown dimension": (task(requires={"charm": 3}), "a key of field requires: expected one of analysis, coding"),
    "a bar above 10": (task(requires={"coding": 11}), "field requires: expected every value to be int <= 10."),
    "tier 4": (task(max_tier=4), "field max_tier: expected one of 1, 2, 3, found 4."),
    "an id with a space": (task(task_id="t 17"), "field task_id: expected 1 to 128 letters, digits or . _ : -"),
    "an id with a newline": (task(task_id="t-17\n"), "field task_id: expected 1 to 128 letters"),
    "an id of 129": (task(task_id="t" * 129), "field task_id: expected 1 to 128 letters"),
    "an affinity with a bad id": (task(affinity={"slot_id": ""}), "field affinity.slot_id: expected 1 to 128 letters"),
    "a list with a bad word": (task(allow_providers=["a", ""]), "field allow_providers.1: expected str of length >= 1"),
    "a list of 1,001": (task(deny_providers=["a"] * 1001), "field deny_providers: expected array of length <= 1000"),
    "a title of 8,193": (task(title="x" * 8193), "field title: expected str of length <= 8192"),
    "month 13": (task(at="2026-13-21T10:00:00.000Z"), "field at: '2026-13-21T10:00:00.000Z' has the form of a time"),
    "29 February of 2026": (task(deadline="2026-02-29T10:00:00Z"), "field deadline: '2026-02-29T10:00:00Z' has the"),
    "24 o'clock": (task(not_before="2026-11-21T24:00:00Z"), "field not_before: '2026-11-21T24:00:00Z' has the form"),
    "second 60": (task(at="2026-11-21T10:00:60Z"), "there is no such moment"),
    "year 0": (task(at="0000-11-21T10:00:00Z"), "is of the year 0000; years from 1970 to 9999 are accepted."),
    "a time that was never set": (task(at="0001-01-01T00:00:00Z"), "field at: '0001-01-01T00:00:00Z' is of the year"),
    "a deadline before 1970": (task(deadline="1969-12-31T23:59:59.999Z"), "field deadline: '1969-12-31T23:59:59"),
    "29 February of 2100": (task(deadline="2100-02-29T10:00:00Z"), "there is no such moment"),
    "digits of another script": (task(at="٢٠٢٦-11-21T10:00:00Z"), "there is no such moment"),
    "a time with an offset": (task(at="2026-11-21T10:00:00+01:00"), "field at: expected a time like 2026-11-21T10"),
    "a time without a zone": (task(at="2026-11-21T10:00:00"), "field at: expected a time like"),
    "a time as a number": (task(at=1795255200), "field at: expected str, found 1795255200."),
    "another pool than the key": (task(pool="other"), "field pool: 'other' is not the record's key 'main'"),
    "schema_version 2": (task(schema_version=2), "field schema_version: 2 is not version 1 of the wire contract"),
    "schema_version 2.0 as a text": (task(schema_version="2.0"), "field schema_version: '2.0' is not version 1"),
    "schema_version 0": (task(schema_version="0.9"), "field schema_version: '0.9' is not version 1"),
    "schema_version 10": (task(schema_version="10"), "field schema_version: '10' is not version 1"),
    "schema_version true": (task(schema_version=True), "field schema_version: true is not version 1"),
    "schema_version in an object": (task(schema_version={"v": 1}), "field schema_version: an object is not version 1"),
}


@pytest.mark.rule("wire.dead_letters")
@pytest.mark.parametrize(("value", "want_reason"), POISON.values(), ids=POISON)
def test_poison_is_refused_with_a_sentence_that_names_field_and_problem(value: bytes | None, want_reason: str) -> None:
    """The sentence is enough to correct the record."""
    sentence = reason(read(value))
    assert want_reason in sentence
    assert sentence.isascii()
    assert sentence.isprintable()
    assert sentence.endswith(".")


def test_a_refusal_repeats_at_most_80_characters_of_input() -> None:
    """A sentence goes to logs, headers and the journal: it stays short whatever was sent."""
    flood = "<\x1b[31m>é" * 9_000
    values = [
        task(task_id=flood),
        task(complexity=flood),
        task(complexity=f"x - at `$.ev` {flood}"),
        task(requires={flood: 1}),
        task(schema_version=flood),
        task(at="9999-99-99T99:99:99.999999999Z"),
        task_with(f'"{flood}":1,"{flood}":2'.encode().replace(b"\x1b", b"x")),
        flood.encode(),
    ]
    sentences = [reason(read(value)) for value in values]
    sentences += [reason(read(task(), key=flood.encode())), reason(read(task(pool="p" * 128), key=b"k" * 9_000))]
    sentences.append(reason(read(task(), headers=[("ce_type", b"slotwise." + flood.encode())])))
    sentences.append(reason(read_event(flood, b"main", task(), ())))
    for sentence in sentences:
        assert len(sentence) < ECHO_CHARS_MAX + 200
        assert sentence.isascii()
        assert sentence.isprintable()


@pytest.mark.parametrize(("excess", "want_read"), [(-1, True), (0, True), (1, False), (10_000_000, False)])
def test_a_value_is_read_up_to_its_limit_in_bytes(*, excess: int, want_read: bool) -> None:
    """256 KiB are read, one byte more is not."""
    start = task_with(b'"x":"')[:-1]
    value = start + b"x" * (VALUE_BYTES_MAX + excess - len(start) - 2) + b'"}'
    assert len(value) == VALUE_BYTES_MAX + excess
    assert isinstance(read(value), TaskPending) is want_read
    if not want_read:
        assert f"has {len(value)} bytes; at most 262144" in reason(read(value))


def test_an_unknown_topic_is_refused() -> None:
    """An unknown topic is refused with a sentence; it does not raise."""
    assert "none of the input topics" in reason(read(task(), topic="task.routed"))


# --- What is read ---


def test_the_deepest_nesting_allowed_is_read() -> None:
    """The record and 31 levels within are 32."""
    inside = b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1)
    assert read(task_with(b'"x":' + inside)).task_id == "t-17"
    assert read(task_with(b'"x":[' + b"[]," * 500 + b"{}]")).task_id == "t-17"


HARMLESS: dict[str, bytes] = {
    "text that looks like a key": task(title='say "x":1, "x":2'),
    "the same key in two objects": task_with(b'"x":{"y":1},"z":[{"y":1},{"y":2}]'),
    "space around every token": json.dumps(TASK, indent=2).encode().replace(b'":', b'" :'),
    "a backslash before u0000": task_with(b'"title":"\\\\u0000"'),
    "a pair of surrogates": task_with(b'"title":"\\ud83d\\ude00"'),
    "brackets in text": task(title="[{" * 100),
    "an unknown field": task(color={"deep": ["red"]}),
    "a tiny number": task_with(b'"ev":1e-400'),
    "null for an optional field": task(ev=None, deadline=None, affinity=None),
}


@pytest.mark.parametrize("value", HARMLESS.values(), ids=HARMLESS)
def test_what_only_looks_like_poison_is_read(value: bytes) -> None:
    """A cheap check fails, the exact search then finds nothing wrong."""
    assert read(value).task_id == "t-17"


@pytest.mark.rule("wire.times")
@pytest.mark.parametrize("at", ["2026-11-21T10:00:00Z", "2026-11-21T10:00:00.1Z", "2026-11-21T10:00:00.123456789Z"])
def test_milliseconds_are_optional(at: str) -> None:
    """A time may have no fraction of a second, or more than three digits."""
    assert read(task(at=at)).at == at


@pytest.mark.rule("amend.35")
def test_every_time_of_every_event_is_of_an_accepted_year() -> None:
    """Those of its parts too; a field that is added is covered by itself."""
    for topic in INPUT_TOPICS:
        for struct in TOPICS[topic]:
            for path in TIME_FIELDS[struct]:
                record: dict[str, Any] = json.loads(json.dumps(EXAMPLES[struct]))
                part = record
                for name in path[:-1]:
                    part = part[name]
                part[path[-1]] = "0026-11-21T10:00:00.000Z"
                pool = record.get("pool")
                sentence = reason(read_event(topic, pool and pool.encode(), json.dumps(record).encode(), ()))
                assert sentence.startswith(f"field {'.'.join(path)}: '0026-11-21T10:00:00.000Z' is of the year 0026")


@pytest.mark.parametrize("version", ["1", "1.0", "1.7", "1.x", "1.2.3", 1, 1.0, 1.3, None])
def test_a_minor_version_is_read_by_what_we_know_of_it(version: object) -> None:
    """Newer producers add fields; an absent version counts as 1."""
    assert read(task(schema_version=version, color="red")) == read(task())


CE_TYPES: dict[str, tuple[bytes | None, str | None]] = {
    "ours": (b"slotwise.task.pending.v1", None),
    "a minor version of ours": (b"slotwise.task.pending.v1.4", None),
    "the producer's own": (b"com.acme.task.created", None),
    "null": (None, None),
    "the next major version": (b"slotwise.task.pending.v2", "is version 2 of the wire contract; this slotwise reads"),
    "an older major version": (b"slotwise.task.pending.v0", "is version 0 of the wire contract"),
    "no version": (b"slotwise.task.pending", "is no event of this topic"),
    "another topic's": (b"slotwise.slot.freed.v1", "is no event of this topic; expected slotwise.task.pending.v1"),
    "bytes that are no text": (b"slotwise.\xff", "is no event of this topic"),
}


@pytest.mark.parametrize(("ce_type", "want_reason"), CE_TYPES.values(), ids=CE_TYPES)
def test_the_header_ce_type_names_topic_and_major_version(ce_type: bytes | None, want_reason: str | None) -> None:
    """Another major version is refused; a foreign type is ignored."""
    outcome = read(task(), headers=[("ce_id", b"1"), ("ce_type", ce_type)])
    if want_reason is None:
        assert outcome.task_id == "t-17"
    else:
        assert want_reason in reason(outcome)


KEYS: dict[str, tuple[str, bytes, bytes | None, str | None]] = {
    "a task without a key": (TASK_PENDING, task(), None, "key: missing; send the pool as the key, here 'main'"),
    "a task with an empty key": (TASK_PENDING, task(), b"", "key: missing"),
    "a task with a key of no text": (TASK_PENDING, task(), b"\xff", "is not the record's key"),
    "a control for all pools": (FLEET_CONTROL, control(), None, None),
    "a control for all pools with a key": (FLEET_CONTROL, control(), b"main", "but the value names no pool"),
    "a control of a pool": (FLEET_CONTROL, control(pool="main"), b"main", None),
    "a control of another pool": (FLEET_CONTROL, control(pool="other"), b"main", "is not the record's key"),
    "a control of a pool without a key": (FLEET_CONTROL, control(pool="main"), None, "key: missing"),
    "a tick": (FLEET_CONTROL, control(kind="tick"), None, None),
    "a tick of a pool without a key": (FLEET_CONTROL, control(kind="tick", pool="main"), None, None),
    "a tick of another pool": (FLEET_CONTROL, control(kind="tick", pool="other"), b"main", "is not the record's key"),
}


@pytest.mark.rule("wire.key")
@pytest.mark.parametrize(("topic", "value", "key", "want_reason"), KEYS.values(), ids=KEYS)
def test_the_key_is_the_pool(topic: str, value: bytes, key: bytes | None, want_reason: str | None) -> None:
    """The key decides the partition, and the partition has one writer: the two must agree."""
    outcome = read(value, key=key, topic=topic)
    if want_reason is None:
        assert isinstance(outcome, Control)
    else:
        assert want_reason in reason(outcome)


CONTROLS: dict[str, tuple[bytes, str]] = {
    "an unknown kind": (control(kind="model.melted"), "field kind: expected one of model.exhausted, model.restored"),
    "no kind": (control(kind=None), "field kind: required, and missing"),
    "a kind that is a number": (control(kind=5), "field kind: expected str, found 5"),
    "exhausted without until": (control(until=None), "field until: required, and missing"),
    "exhausted until month 13": (control(until="2026-13-01T00:00:00Z"), "field until: '2026-13-01T00:00:00Z' has"),
    "exhausted of nothing": (control(product=None), "field product: missing, and so is field model"),
    "restored of nothing": (control(kind="model.restored", product=None), "field product: missing, and so is field"),
    "drained without a model": (control(kind="model.drained"), "field model: required, and missing"),
    "a credit without a pool": (
        control(kind="budget.credited", tenant_id="acme", amount_usd=1),
        "field pool: required, and missing",
    ),
}


@pytest.mark.rule("control.refused")
@pytest.mark.parametrize(("value", "want_reason"), CONTROLS.values(), ids=CONTROLS)
def test_a_control_that_does_not_say_what_it_must_is_refused(value: bytes, want_reason: str) -> None:
    """An ambiguous operator's event is refused."""
    assert want_reason in reason(read(value, key=None, topic=FLEET_CONTROL))


@pytest.mark.rule("control.model.exhausted")
def test_exhausted_may_name_a_model_instead_of_a_product() -> None:
    """One of the two fields is enough."""
    outcome = read(control(product=None, model="opus"), key=None, topic=FLEET_CONTROL)
    assert isinstance(outcome, ModelExhausted)
    assert (outcome.product, outcome.model) == (None, "opus")


# --- What is written ---


@pytest.mark.parametrize("struct", [s for s in EXAMPLES if s not in get_args(Output)])
def test_an_example_is_read_written_and_read_the_same(struct: type) -> None:
    """A written event is read as the same, with keys, types and versions."""
    topic = next(topic for topic, structs in TOPICS.items() if struct in structs)
    pool = EXAMPLES[struct].get("pool")
    key = None if pool is None else pool.encode()
    event = read_event(topic, key, json.dumps(EXAMPLES[struct]).encode(), ())
    assert type(event) is struct
    assert not isinstance(event, Unreadable)
    record = write_event(topic, event, ce_id="e-1", source="test", time_ms=0)
    assert record.key == key
    assert read_event(topic, record.key, record.value, record.headers) == event


def test_a_written_record_is_a_cloud_event() -> None:
    """Binary mode: the attributes are headers, the value is the event alone."""
    tick = Tick(control_id="tick-1", at=AT, by="slotwise")
    record = write_event(FLEET_CONTROL, tick, ce_id="e-1", source="slotwise/3", time_ms=1_795_255_200_000)
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"e-1",
        "ce_source": b"slotwise/3",
        "ce_type": b"slotwise.fleet.control.v1",
        "ce_time": AT.encode(),
        "content-type": b"application/json",
    }
    assert (record.key, json.loads(record.value)) == (
        None,
        {"kind": "tick", "control_id": "tick-1", "at": AT, "by": "slotwise"},
    )


def test_a_written_record_takes_its_trace_along() -> None:
    """The decision has the trace of its task."""
    event = TaskPending(task_id="t-17", pool="main", at=AT)
    record = write_event(
        TASK_PENDING, event, ce_id="e", source="s", time_ms=0, traceparent=TRACEPARENT, tracestate="a=1"
    )
    assert trace_of(record.headers) == (TRACEPARENT, "a=1")


TRACES: dict[str, tuple[bytes | None, bytes | None, tuple[str | None, str | None]]] = {
    "both": (TRACEPARENT.encode(), b"a=1,b=2", (TRACEPARENT, "a=1,b=2")),
    "none": (None, None, (None, None)),
    "a state without a parent": (None, b"a=1", (None, None)),
    "a state with a bad parent": (b"junk", b"a=1", (None, None)),
    "capitals": (TRACEPARENT.upper().encode(), None, (None, None)),
    "trace id zero": (b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", None, (None, None)),
    "parent id zero": (b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01", None, (None, None)),
    "version ff": (b"ff" + TRACEPARENT[2:].encode(), None, (None, None)),
    "version 00 with more": (TRACEPARENT.encode() + b"-x", None, (None, None)),
    "a later version with more": (b"01" + TRACEPARENT[2:].encode() + b"-x", None, (TRACEPARENT, None)),
    "a newline after it": (TRACEPARENT.encode() + b"\n", None, (None, None)),
    "a state that is no list": (TRACEPARENT.encode(), b"hello", (TRACEPARENT, None)),
    "a state of no text": (TRACEPARENT.encode(), b"a=\xff", (TRACEPARENT, None)),
    "a state of 33 members": (TRACEPARENT.encode(), b",".join([b"a=1"] * 33), (TRACEPARENT, None)),
    "a state too long": (TRACEPARENT.encode(), b"a=" + b"1" * 511, (TRACEPARENT, None)),
}


@pytest.mark.parametrize(("parent", "state", "want_trace"), TRACES.values(), ids=TRACES)
def test_a_trace_is_taken_along_only_when_valid(
    parent: bytes | None, state: bytes | None, want_trace: tuple[str | None, str | None]
) -> None:
    """An invalid trace header is dropped; the event is read."""
    headers = [(name, value) for name, value in (("traceparent", parent), ("tracestate", state)) if value is not None]
    assert trace_of([("ce_id", b"1"), *headers]) == want_trace


# --- Steps ---

STEP = Step(
    partition=3,
    seq=17,
    now_ms=Millis(1_795_255_200_000),
    policy="p",
    catalog="c",
    inputs=(Accepted(topic=0, offset=5, now_ms=Millis(1_795_255_200_000)),),
    rejected=(Rejected(topic=0, offset=5, reason="field at: required, and missing."),),
    percentiles=(Percentiles(pool="main", at_ms=Millis(0), samples=2, p50=None, p90=None),),
)


def test_a_step_is_read_as_it_was_written_and_its_version_comes_first() -> None:
    """A reader sees the version first."""
    raw = encode_step(STEP)
    assert raw.startswith(b'{"v":2,"partition":3,')
    assert decode_step(raw) == STEP
    assert decode_step(json.dumps(json.loads(raw), indent=1, sort_keys=True).encode()) == STEP


STRANGE_STEPS: dict[str, tuple[bytes, str]] = {
    "a later version": (b'{"v":3,"what":"else"}', "version 3; this slotwise reads versions 1 to 2"),
    "version 0": (b'{"v":0,"what":"else"}', "version 0; this slotwise reads versions 1 to 2"),
    "no version": (encode_step(STEP).replace(b'"v":2,', b""), "is no step (Object missing required field `v`)"),
    "no JSON": (b"\x00\x01", "is no step"),
    "nothing": (b"", "is no step"),
    "invalid UTF-8": (b'{"v":2,"partition":3,"policy":"\xff"}', "is no step"),
    "a missing field": (b'{"v":2,"partition":3}', "is no step (Object missing required field"),
    "a missing field in version 1": (b'{"v":1,"partition":3,"slots":[{}],"moved":[{}]}', "is no step (Object missing"),
    "rows that are none, in version 1": (b'{"v":1,"partition":3,"slots":7}', "is no step (Expected `array`"),
    "depth 10,000": (b'{"v":2,"x":' + b"[" * 10_000, "is no step"),
    "depth 10,000 in version 1": (b'{"v":1,"x":' + b"[" * 10_000, "is no step"),
}


@pytest.mark.parametrize(("raw", "want_reason"), STRANGE_STEPS.values(), ids=STRANGE_STEPS)
def test_a_strange_journal_record_is_named_not_guessed_at(raw: bytes, want_reason: str) -> None:
    """A reader stops with a sentence."""
    with pytest.raises(StepError) as caught:
        decode_step(raw)
    assert want_reason in str(caught.value)


# --- Dead letters ---


def test_a_dead_letter_says_why_and_where_from() -> None:
    """The names are those of Kafka Streams; the record's own headers stay."""
    headers = dead_letter_headers(TASK_PENDING, 3, 17, "field at: …", [("ce_id", b"1")], attempt=2, version="0.1.0")
    assert headers == (
        ("ce_id", b"1"),
        ("__streams.errors.exception", b"Unreadable"),
        ("__streams.errors.message", "field at: …".encode()),
        ("__streams.errors.topic", b"task.pending"),
        ("__streams.errors.partition", b"3"),
        ("__streams.errors.offset", b"17"),
        ("slotwise.attempt", b"2"),
        ("slotwise.version", b"0.1.0"),
    )


def test_a_dead_letter_that_is_refused_again_carries_one_reason() -> None:
    """Headers of an earlier dead letter are replaced."""
    first = dead_letter_headers(TASK_PENDING, 3, 17, "first", [("ce_id", b"1"), ("ce_time", None)])
    second = dict(dead_letter_headers(TASK_PENDING, 3, 99, "second", first))
    assert len(second) == len(first)
    assert (second["__streams.errors.message"], second["__streams.errors.offset"]) == (b"second", b"99")


def test_a_flood_of_headers_does_not_make_a_dead_letter_too_large() -> None:
    """The record's own headers are kept up to the limit, and the rest is counted."""
    flood = [(f"h-{number}", b"x" * 1_000) for number in range(1_000)]
    headers = dead_letter_headers(TASK_PENDING, 0, 0, "r", flood)
    assert sum(len(value) for _, value in headers) < HEADERS_BYTES_MAX + 1_000
    kept = sum(name.startswith("h-") for name, _ in headers)
    assert dict(headers)["slotwise.headers_dropped"] == str(1_000 - kept).encode()


def test_a_value_too_large_for_the_dead_letter_topic_is_cut_and_its_hash_kept() -> None:
    """The headers carry the size and hash of the whole value."""
    raw = b"x" * 1_001
    assert dead_letter_value(raw, 1_001) == (raw, ())
    assert dead_letter_value(None, 10) == (None, ())
    value, headers = dead_letter_value(raw, 1_000)
    assert value == raw[:1_000]
    assert dict(headers) == {
        "slotwise.value_bytes": b"1001",
        "slotwise.value_sha256": hashlib.sha256(raw).hexdigest().encode(),
    }


@pytest.mark.parametrize("topic", OUTPUT_TOPICS)
def test_an_output_is_read_as_it_was_written(topic: str) -> None:
    """Fields of a newer version are ignored; what is none of the topic's events is no error either."""
    (struct,) = TOPICS[topic]
    value = EXAMPLES[struct]
    event = read_output(topic, json.dumps({**value, "of_a_newer_version": [1]}).encode())
    assert not isinstance(event, Unreadable)
    assert json.loads(encode_event(event)) == value
    for damaged in (None, b"", b"{", b"[]", b'{"payload":1}'):
        assert isinstance(read_output(topic, damaged), Unreadable)


def test_a_title_that_speaks_of_a_payload_is_none() -> None:
    """Only a field counts."""
    value = {**EXAMPLES[TaskRouted], "title": '"payload"'}
    value.pop("payload", None)
    event = read_output(TASK_ROUTED, json.dumps(value).encode())
    assert isinstance(event, TaskRouted)
    assert (event.title, event.payload) == ('"payload"', None)
