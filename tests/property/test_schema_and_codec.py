"""What the published schema allows is read, and what it refuses is not: producers in any language may rely on it.

Both are asked about records around every limit that the schema itself names, so that a field that is added is covered.
What no schema can say stands in docs/events.md: a record's size and depth, a key that stands twice, the key's pool.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from schemas.codec import VALUE_BYTES_MAX, encode_event, read_event
from schemas.examples import EXAMPLES
from schemas.input import Unreadable
from schemas.json_schema import TOPICS as STRUCTS
from schemas.json_schema import json_schema
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, SLOT_FREED, TASK_PENDING
from tests.property.test_codec import EVENTS, JSON, TOPICS

SCHEMAS = {topic: json_schema(topic) for topic in INPUT_TOPICS}
VALIDATORS = {topic: jsonschema.Draft202012Validator(schema) for topic, schema in SCHEMAS.items()}


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Give every object of a schema."""
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from parts(part)


def around(schema: dict[str, Any]) -> Iterator[Any]:
    """Give values at and beside every limit that the schema names."""
    for part in parts(schema):
        for name in ("minimum", "maximum", "exclusiveMaximum"):
            if name in part:
                limit = part[name]
                yield from (limit, float(limit), math.nextafter(limit, 0.0))
                if abs(limit) <= 2**60:  # beyond it both are the limit again to all who read numbers into doubles
                    yield from (int(limit) - 1, int(limit) + 1)
        for name in ("minLength", "maxLength"):
            if name in part:
                yield from ("x" * part[name], "x" * (part[name] + 1), "\N{GRINNING FACE}" * min(part[name], 9_000))
        if "maxItems" in part:
            yield from (["x"] * part["maxItems"], ["x"] * (part["maxItems"] + 1))
        if "maxProperties" in part:
            yield from ({f"k{i}": "x" for i in range(part["maxProperties"] + more)} for more in (0, 1))
        yield from part.get("enum", ())
        yield from map(float, (word for word in part.get("enum", ()) if isinstance(word, int)))


ODD = (
    *(None, True, False, "", " ", [], {}, [None], {"x": None}, [[[[1.0]]]]),
    *(0, -0.0, 1.0, 4.0, 1800.0, 0.5, -1, 2**53 + 1, 2**63, 2**64, 10**30, 10**400, 1e300, 5e-324),
    *(
        "t-17",
        "t-17\n",
        "\n",
        "a\0b",
        "\x7f",
        "\N{RIGHT-TO-LEFT OVERRIDE}",
        "\N{LINE SEPARATOR}",
        "caf\N{COMBINING ACUTE ACCENT}",
    ),
    *("1.0", "1.0\n", "1.x", "2", 1.9, "http://x/%41?q#f", "%4", "a b", "http://[::1]/"),
    *(f"{year:04d}-11-21T10:00:00Z" for year in (0, 1, 26, 1969, 1970, 2000, 9999)),
    *("2026-02-29T10:00:00Z", "2024-02-29T10:00:00Z", "2100-02-29T10:00:00Z", "2026-04-31T10:00:00.123Z"),
    *("2026-11-21T24:00:00Z", "2026-11-21T23:59:60Z", "2026-11-21T10:00:00", "2026-11-21T10:00:00+01:00"),
    *("2026-11-21T10:00:00.Z", "2026-11-21T10:00:00.1234567890Z", "2026-11-21t10:00:00Z", "2026-11-21T10:00:00Z\n"),
    *("\N{ARABIC-INDIC DIGIT TWO}026-11-21T10:00:00Z", "9999-12-31T23:59:59.999999999Z"),
    *({"coding": 10.0}, {"coding": 11}, {"charm": 1}, {"coding": None}, {"a\0": 1}, {"k" * 65: "v"}, {"k": "v" * 257}),
    *({"slot_id": None}, {"slot_id": "a b"}, {"account": "x", "more": {"y": "\0"}}),
)
VALUES = st.sampled_from([*ODD, *(value for schema in SCHEMAS.values() for value in around(schema))]) | JSON
NAMES = sorted({name for struct in TOPICS for name in (*struct.__struct_fields__, "kind", "schema_version", "color")})


@st.composite
def records(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Give a topic and a record: a right one, of which some fields are changed or gone."""
    event: Any = draw(EVENTS)
    topic = TOPICS[type(event)]
    record: dict[str, Any] = json.loads(encode_event(event))
    for _ in range(draw(st.integers(0, 3))):
        inner = [value for value in record.values() if isinstance(value, dict)]
        part = draw(st.sampled_from([record, *inner]))
        name = draw(st.sampled_from(sorted({*part, *NAMES})))
        if draw(st.integers(0, 5)):
            part[name] = draw(VALUES)
        else:
            part.pop(name, None)
    return topic, record


def is_read(topic: str, record: dict[str, Any], text: str) -> bool:
    """Whether the codec takes the record, under the key that belongs to it."""
    pool = record.get("pool")
    key = pool.encode() if isinstance(pool, str) and pool else None if topic == FLEET_CONTROL else b"main"
    return not isinstance(read_event(topic, key, text.encode(), ()), Unreadable)


@pytest.mark.rule("amend.45", "wire.closed_lists")
@given(records(), st.booleans())
@example((TASK_PENDING, {"task_id": "t", "pool": "main", "at": "2026-11-21T10:00:00Z", "input_tokens": 1800.0}), False)
@example((SLOT_FREED, {"slot_id": "s", "pool": "main", "at": "2026-11-21T10:00:00Z", "lease": 7.0}), True)
def test_what_the_schema_allows_is_read_and_nothing_else(one: tuple[str, dict[str, Any]], ascii_only: bool) -> None:
    """The two agree about every record that is small and flat enough, and whose key is its pool."""
    topic, record = one
    text = json.dumps(record, ensure_ascii=ascii_only)
    assume(len(text.encode()) <= VALUE_BYTES_MAX)
    allowed = VALIDATORS[topic].is_valid(json.loads(text))
    assert is_read(topic, record, text) == allowed


@pytest.mark.rule("amend.45")
def test_each_field_alone_at_each_of_its_odd_values() -> None:
    """Not left to chance: every field of every event, with every value that is listed above."""
    values = [value for value in ODD if not isinstance(value, str) or len(value) < 300]
    for topic in INPUT_TOPICS:
        for struct in STRUCTS[topic]:
            base = json.loads(json.dumps(EXAMPLES[struct]))
            for name in (*msgspec.structs.fields(struct), None):
                for value in values:
                    record = base | {"color" if name is None else name.encode_name: value}
                    text = json.dumps(record)
                    allowed = VALIDATORS[topic].is_valid(json.loads(text))
                    assert is_read(topic, record, text) == allowed, f"{struct.__name__}: {text}"
