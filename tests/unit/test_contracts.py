"""The written contract says what the code does: current, complete, and true of every example."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest
import yaml
from msgspec import Raw

from schemas import decision, ends, events, marks, shadow, vocabulary
from schemas.asyncapi import asyncapi
from schemas.codec import VALUE_BYTES_MAX, read_event, write_event
from schemas.contracts import main
from schemas.dead_letters import dead_letter_headers, dead_letter_value
from schemas.decision import Accepted, ControlTaken, Step
from schemas.events import TaskPending
from schemas.examples import EXAMPLES
from schemas.input import Unreadable
from schemas.json_schema import ANY_JSON, DEAD_LETTERS, LIKE_OTHERS, TOPICS, json_schema
from schemas.steps import encode_step
from schemas.vocabulary import DECISION_AUDIT, INPUT_TOPICS, TASK_PENDING, Millis

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/events.md").read_text(encoding="utf-8")
TOPIC_OF = {struct: topic for topic, structs in TOPICS.items() for struct in structs}
ALL_TOPICS = {
    value
    for name, value in vars(vocabulary).items()
    if name.isupper() and isinstance(value, str) and re.fullmatch(r"[a-z]+\.[a-z_]+", value)
}


def structs_of(module: ModuleType) -> set[str]:
    """Name the structs that a module defines."""
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__
    }


def validator(topic: str) -> jsonschema.Draft202012Validator:
    """Give the validator of a topic's values, from the file as it is shipped."""
    schema = json.loads((ROOT / f"schemas/json/{topic}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def example(struct: type) -> dict[str, Any]:
    """Give a struct's example as a plain object."""
    return dict(EXAMPLES[struct])


def event_of(struct: type) -> Any:
    """Give a struct's example as the struct, which holds a payload as text."""
    fields = example(struct)
    if "payload" in fields:
        fields["payload"] = json.dumps(fields["payload"], separators=(",", ":"))
    return msgspec.convert(fields, struct)


def test_the_generated_files_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    """After a change of a struct `python -m schemas.contracts` must be run."""
    assert main(["--check"], ROOT) == 0, capsys.readouterr().err


def test_a_stale_file_is_named_and_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check names the file and the command; after writing it passes."""
    assert main(["--check"], tmp_path) == 1
    assert "schemas/asyncapi.yaml is stale: run `python -m schemas.contracts`" in capsys.readouterr().err
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    assert main(["--chekc"], tmp_path) == 2


def test_without_its_yaml_library_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Contracts are generated in development only; an installation without PyYAML gets a sentence."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert main([], tmp_path) == 2
    assert "yaml is missing: install the development dependencies" in capsys.readouterr().err


def test_the_page_is_filled_where_there_is_one(tmp_path: Path) -> None:
    """Between its marks a page gets the current table; the rest of it stays."""
    page = tmp_path / "docs/events.md"
    page.parent.mkdir()
    page.write_text("Mine.\n<!-- fields Affinity -->\nold\n<!-- end -->\n", encoding="utf-8")
    assert main([], tmp_path) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("Mine.\n<!-- fields Affinity -->\n| field | form | default | meaning |")
    assert "old" not in text


@pytest.mark.parametrize("struct", EXAMPLES)
def test_every_example_is_valid(struct: type) -> None:
    """Examples are valid by the schema and read by the codec."""
    topic = TOPIC_OF[struct]
    validator(topic).validate(example(struct))
    if topic in INPUT_TOPICS:
        pool = EXAMPLES[struct].get("pool")
        event = read_event(topic, pool and pool.encode(), json.dumps(example(struct)).encode(), ())
        assert type(event) is struct


@pytest.mark.parametrize("struct", EXAMPLES)
def test_what_is_written_is_valid(struct: type) -> None:
    """Records that slotwise writes are valid by its schema."""
    topic = TOPIC_OF[struct]
    record = write_event(topic, event_of(struct), ce_id="e", source="s", time_ms=0)
    validator(topic).validate(json.loads(record.value))
    assert example(struct) | json.loads(record.value) == example(struct)


WRONG: dict[str, dict[str, Any]] = {
    "no pool": {"pool": None},
    "a priority of 101": {"priority": 101},
    "an unknown dimension": {"requires": {"charm": 1}},
    "an id with a newline": {"task_id": "t-17\n"},
    "a time with an offset": {"at": "2026-11-21T10:00:00+01:00"},
    "another major version": {"schema_version": "2.0"},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_schema_and_codec_refuse_the_same(change: dict[str, Any]) -> None:
    """A record that the schema accepts is read by the codec."""
    record = example(TaskPending) | change
    assert not validator(TASK_PENDING).is_valid(record)
    assert isinstance(read_event(TASK_PENDING, b"main", json.dumps(record).encode(), ()), Unreadable)


def test_schema_and_codec_ignore_unknown_fields() -> None:
    """Fields may be added within a version, by either side first."""
    validator(TASK_PENDING).validate(example(TaskPending) | {"color": "red", "schema_version": "1.9"})


def test_exhausted_of_nothing_is_refused_by_the_schema_too() -> None:
    """The schema has the checks that the types cannot express."""
    record = example(events.ModelExhausted)
    del record["product"]
    assert not validator("fleet.control").is_valid(record)


def test_a_step_is_valid_and_carries_its_version() -> None:
    """The journal's layout is public: what we append is what the schema says."""
    now_ms = Millis(1)
    step = Step(
        partition=0,
        seq=0,
        now_ms=now_ms,
        policy="p",
        catalog="c",
        inputs=(Accepted(topic=0, offset=0, now_ms=now_ms),),
        controls=(ControlTaken(control_id="c-1", at_ms=now_ms, kind="tick", event=Raw(b"{}")),),
    )
    record = json.loads(encode_step(step))
    validator(DECISION_AUDIT).validate(record)
    assert not validator(DECISION_AUDIT).is_valid(record | {"v": 1})
    del record["v"]
    assert not validator(DECISION_AUDIT).is_valid(record)


def test_every_topic_has_a_schema_and_no_struct_is_left_out() -> None:
    """Each topic of the vocabulary is described, with every struct that travels."""
    assert set(TOPICS) == ALL_TOPICS
    described = {name for topic in TOPICS for name in json_schema(topic)["$defs"]}
    assert described == (
        structs_of(events)
        | structs_of(decision)
        | structs_of(ends)
        | structs_of(marks)
        | structs_of(shadow)
        | {ANY_JSON}
    ) - {"Control"}


def test_the_asyncapi_file_names_every_topic_and_every_struct() -> None:
    """One file is enough to find all that travels, and each reference in it leads somewhere."""
    document = yaml.safe_load((ROOT / "schemas/asyncapi.yaml").read_text(encoding="utf-8"))
    assert document == json.loads(json.dumps(asyncapi()))
    assert set(document["channels"]) == ALL_TOPICS | {*LIKE_OTHERS, *DEAD_LETTERS}
    assert set(document["components"]["messages"]) == {struct.__name__ for struct in TOPIC_OF} | {"DeadLetter"}
    missing = (
        (structs_of(events) | structs_of(decision) | structs_of(ends) | structs_of(marks) | structs_of(shadow))
        - {"Control"}
        - set(document["components"]["schemas"])
    )
    assert missing == set()
    for reference in re.findall(r'"\$ref": "([^"]*)"', json.dumps(document)):
        file, _, pointer = reference.partition("#/")
        found = json.loads((ROOT / "schemas" / file).read_text(encoding="utf-8")) if file else document
        for name in pointer.split("/"):
            found = found[name]


def test_the_asyncapi_file_has_kafka_bindings_and_cloud_events_headers() -> None:
    """The key is the pool, and what we send are CloudEvents."""
    document = asyncapi()
    headers = document["components"]["schemas"]["HeadersOut"]
    assert {"ce_id", "ce_source", "ce_type", "ce_time", "ce_specversion", "content-type"} == set(headers["required"])
    for name, message in document["components"]["messages"].items():
        binding = message["bindings"]["kafka"]
        assert binding["bindingVersion"] == "0.5.0"
        assert ("key" in binding) is (name not in ("Step", "DeadLetter"))
    for channel in document["channels"].values():
        assert channel["bindings"]["kafka"] == {"topic": channel["address"], "bindingVersion": "0.5.0"}


def test_the_page_names_every_topic_and_every_struct_on_the_wire() -> None:
    """Every topic and struct is on the page."""
    for topic in (*TOPICS, *LIKE_OTHERS, *DEAD_LETTERS):
        assert f"`{topic}`" in PAGE
    for struct in structs_of(events) - {"Control"}:
        assert f"<!-- fields {struct} -->\n| field |" in PAGE
    for example_of in EXAMPLES:
        assert f"<!-- example {example_of.__name__} -->\n```json" in PAGE


def test_the_page_names_every_header_and_the_limit_that_holds() -> None:
    """Headers and limits are the code's own."""
    record = write_event(
        TASK_PENDING,
        event_of(TaskPending),
        ce_id="e",
        source="s",
        time_ms=0,
        traceparent="t",
        tracestate="s",
    )
    letter = (
        dead_letter_headers(TASK_PENDING, 0, 0, "r", [("x", b"x" * 20_000)], attempt=1, version="v")
        + dead_letter_value(b"xx", 1)[1]
    )
    document = asyncapi()["components"]["schemas"]
    for name, _ in record.headers:
        assert f"`{name}`" in PAGE
        assert name in document["HeadersOut"]["properties"]
    for name, _ in letter:
        assert f"`{name}`" in PAGE
        assert name in document["HeadersOfDeadLetter"]["properties"]
    assert f"{VALUE_BYTES_MAX:,} bytes" in PAGE
