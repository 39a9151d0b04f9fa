"""The AsyncAPI 3.0 document of the contract: channels, operations and messages, as plain data."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from schemas.codec import VALUE_BYTES_MAX, ce_type
from schemas.decision import Step
from schemas.examples import EXAMPLES
from schemas.json_schema import DEAD_LETTERS, DESCRIPTIONS, LIKE_OTHERS, ROUTING_REPLAY, TOPICS, structs_in
from schemas.vocabulary import ID_PATTERN, INPUT_TOPICS, OUTPUT_TOPICS

_BINDING: Final = "0.5.0"
#: Spelled out in each message: to AsyncAPI's own schema a reference here is ambiguous.
_KEY: Final = {
    "type": "string",
    "pattern": ID_PATTERN,
    "description": "The pool, as in the value. A fleet.control for all pools has no key.",
}
_HEADERS: Final[Mapping[str, str]] = {
    "ce_specversion": "CloudEvents: `1.0`.",
    "ce_id": "CloudEvents: id of this event; with `ce_source` the key to dedupe.",
    "ce_source": "CloudEvents: who says it.",
    "ce_type": "CloudEvents: `slotwise.<topic>.v<major>`; another major version is refused.",
    "ce_time": "CloudEvents: when it was said.",
    "content-type": "`application/json`.",
    "traceparent": "W3C trace context.",
    "tracestate": "W3C trace context of vendors.",
}
_TRACE: Final = ("traceparent", "tracestate")
_DEAD_LETTER_HEADERS: Final[Mapping[str, str]] = {
    "__streams.errors.exception": "What kind of failure it was (KIP-1034).",
    "__streams.errors.message": "The sentence that says why.",
    "__streams.errors.topic": "Where the record stood: topic,",
    "__streams.errors.partition": "partition,",
    "__streams.errors.offset": "and offset.",
    "slotwise.attempt": "The last attempt of a task that was given up.",
    "slotwise.version": "Version of the slotwise that gave up.",
    "slotwise.value_bytes": "Size of a value that was cut to fit.",
    "slotwise.value_sha256": "SHA-256 of that value, whole.",
    "slotwise.headers_dropped": "How many of the record's own headers found no room.",
}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document: channels, operations and messages."""
    operations: dict[str, Any] = {}
    for topic in (*TOPICS, *LIKE_OTHERS, *DEAD_LETTERS):
        does, action = ("read", "receive") if topic in (*INPUT_TOPICS, ROUTING_REPLAY) else ("write", "send")
        operations[f"{does}.{topic}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{topic}"},
            "summary": f"slotwise {does}s `{topic}`.",
        }
    schemas = {
        struct.__name__: {"$ref": f"./json/{topic}.schema.json#/$defs/{struct.__name__}"}
        # What arrives is stricter than what a journal may hold: the topic that comes first counts.
        for topic, structs in reversed(list(TOPICS.items()))
        for struct in structs_in(structs)
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "slotwise",
            "version": "1.0.0",
            "description": "Gives each task of an LLM agent fleet to the slot where it is worth the most, "
            f"and says why. Values are JSON objects of at most {VALUE_BYTES_MAX} bytes. The input topics have the "
            "same number of partitions; the partition is murmur2 of the key, as Kafka's default partitioner has it; "
            "a record on another one is forwarded there. "
            "An installation may put a prefix before every topic name.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic: _channel(topic) for topic in (*TOPICS, *LIKE_OTHERS, *DEAD_LETTERS)},
        "operations": operations,
        "components": {
            "messages": {
                struct.__name__: _message(topic, struct) for topic, structs in TOPICS.items() for struct in structs
            }
            | {"DeadLetter": _dead_letter()},
            "schemas": {
                "Headers": _headers(_HEADERS, required=()),
                "HeadersOut": _headers(_HEADERS, required=tuple(name for name in _HEADERS if name not in _TRACE)),
                "HeadersOfDeadLetter": _headers(_DEAD_LETTER_HEADERS, required=tuple(_DEAD_LETTER_HEADERS)[:5]),
            }
            | dict(sorted(schemas.items())),
        },
    }


def _channel(topic: str) -> dict[str, Any]:
    if topic in DEAD_LETTERS:
        names = ["DeadLetter"]
    else:
        names = [struct.__name__ for like in LIKE_OTHERS.get(topic, (topic,)) for struct in TOPICS[like]]
    return {
        "address": topic,
        "description": DESCRIPTIONS[topic],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": _BINDING}},
    }


def _message(topic: str, struct: type[Struct]) -> dict[str, Any]:
    name = struct.__name__
    key = {} if struct is Step else {"key": _KEY}
    message: dict[str, Any] = {
        "name": ce_type(topic),
        "title": name,
        "summary": inspect.getdoc(struct),
        "headers": {"$ref": f"#/components/schemas/{'HeadersOut' if topic in OUTPUT_TOPICS else 'Headers'}"},
        "payload": {
            "schemaFormat": "application/schema+json;version=2020-12",
            "schema": {"$ref": f"./json/{topic}.schema.json#/$defs/{name}"},
        },
        "bindings": {"kafka": {**key, "bindingVersion": _BINDING}},
    }
    if struct in EXAMPLES:
        message["examples"] = [{"payload": EXAMPLES[struct]}]
    return message


def _dead_letter() -> dict[str, Any]:
    return {
        "name": "dead letter",
        "title": "DeadLetter",
        "summary": "A record that was refused, byte for byte; its own headers come before the ones named here. "
        "A task given up after its last attempt is in `task.pending.dlq` too, as JSON with `task` and `story`.",
        "contentType": "application/octet-stream",
        "headers": {"$ref": "#/components/schemas/HeadersOfDeadLetter"},
        "bindings": {"kafka": {"bindingVersion": _BINDING}},
    }


def _headers(headers: Mapping[str, str], required: tuple[str, ...]) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in headers.items()},
    }
    return schema | ({"required": list(required)} if required else {})
