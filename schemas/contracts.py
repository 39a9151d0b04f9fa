"""Generates the contract from the structs: a JSON Schema a topic, one AsyncAPI file, the tables of docs/events.md.

`python -m schemas.contracts` writes them, `--check` fails when one is stale. The structs are the only source:
names, limits and docstrings come from them, the meaning of a field from the `#:` lines above it.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

from schemas.codec import VALUE_BYTES_MAX, ce_type
from schemas.decision import STEP_VERSION, Step
from schemas.events import (
    FleetControl,
    ModelExhausted,
    ModelRestored,
    SlotFreed,
    TaskAwaitSlot,
    TaskPending,
    TaskRouted,
)
from schemas.examples import EXAMPLES
from schemas.vocabulary import (
    DECISION_AUDIT,
    FLEET_CONTROL,
    ID_PATTERN,
    INPUT_TOPICS,
    SLOT_FREED,
    TASK_AWAIT_SLOT,
    TASK_PENDING,
    TASK_ROUTED,
    TIME_PATTERN,
)

_CONTROLS: Final[tuple[type[Struct], ...]] = get_args(FleetControl)
#: Structs of each topic; where there is more than one, the field `kind` names it.
TOPICS: Final[Mapping[str, tuple[type[Struct], ...]]] = {
    TASK_PENDING: (TaskPending,),
    SLOT_FREED: (SlotFreed,),
    FLEET_CONTROL: _CONTROLS,
    TASK_ROUTED: (TaskRouted,),
    TASK_AWAIT_SLOT: (TaskAwaitSlot,),
    DECISION_AUDIT: (Step,),
}
#: The journal of shadow and replay runs has the layout of the journal.
DECISION_SHADOW: Final = "decision.shadow"
DEAD_LETTERS: Final = tuple(f"{topic}.dlq" for topic in INPUT_TOPICS)

_DESCRIPTIONS: Final[Mapping[str, str]] = {
    TASK_PENDING: "Tasks that want a slot.",
    SLOT_FREED: "Slots that announce themselves, or are free again.",
    FLEET_CONTROL: "Events of operators, probes and billing. With `pool` it concerns that pool and is keyed by it; "
    "without, the same record stands in every partition, without a key.",
    TASK_ROUTED: "Tasks that have a slot. Delivered at least once, in order per pool; dedupe by `decision_id`.",
    TASK_AWAIT_SLOT: "Tasks that wait, each time their headline reason changes, and waits that ended without a slot.",
    DECISION_AUDIT: "The journal: one step a record, the only truth about what happened. A step can concern several "
    "pools of its partition, so its key means nothing.",
    DECISION_SHADOW: "Steps of shadow and replay runs: decided, never acted upon.",
} | {
    letters: f"Records of `{topic}` that were refused: raw key and value, with headers that say why and where from."
    for letters, topic in zip(DEAD_LETTERS, INPUT_TOPICS, strict=True)
}

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DOCS: Final = "docs/events.md"


def render(root: Path) -> dict[str, str]:
    """Return the text of every generated file by its path below `root`; the page is rendered where it exists."""
    files = {f"schemas/json/{topic}.schema.json": _json(json_schema(topic)) for topic in TOPICS}
    files["schemas/asyncapi.yaml"] = (
        "# Generated from the structs by `python -m schemas.contracts`; change those.\n" + _yaml(asyncapi()) + "\n"
    )
    page = root / _DOCS
    if page.exists():
        files[_DOCS] = fill_page(page.read_text(encoding="utf-8"))
    return files


def main(arguments: list[str], root: Path) -> int:
    """Write stale files, or with `--check` only name them; 0: nothing is stale now."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m schemas.contracts [--check]\n")
        return 2
    stale = [
        (name, text)
        for name, text in render(root).items()
        if not (root / name).exists() or (root / name).read_text(encoding="utf-8") != text
    ]
    if arguments:
        for name, _ in stale:
            sys.stderr.write(f"{name} is stale: run `python -m schemas.contracts` and commit what it writes.\n")
        return 1 if stale else 0
    for name, text in stale:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return 0


# --- JSON Schema -----------------------------------------------------------------------------------------------


def json_schema(topic: str) -> dict[str, Any]:
    """Return the JSON Schema of a topic's values: a reference, and each struct under `$defs`."""
    structs = TOPICS[topic]
    _, defs = msgspec.json.schema_components(structs, ref_template="#/$defs/{name}")
    for struct in _reached(structs):
        _complete(struct, defs[struct.__name__], spoken=topic in INPUT_TOPICS and struct in structs)
    references = [{"$ref": f"#/$defs/{struct.__name__}"} for struct in structs]
    return {
        "$schema": _DIALECT,
        "$id": f"urn:slotwise:{topic}:v{STEP_VERSION if structs == (Step,) else 1}",
        "title": topic,
        "description": _DESCRIPTIONS[topic],
        **(references[0] if len(references) == 1 else {"oneOf": references}),
        "$defs": defs,
    }


def _reached(structs: tuple[type[Struct], ...]) -> list[type[Struct]]:
    """Return every struct that these contain, themselves included."""
    found: dict[type[Struct], None] = {}
    todo = list(msgspec.inspect.multi_type_info(structs))
    while todo:
        kind = todo.pop(0)
        if isinstance(kind, msgspec.inspect.StructType) and kind.cls not in found:
            found[kind.cls] = None
            todo.extend(field.type for field in kind.fields)
        todo.extend(_parts(kind))
    return list(found)


def _parts(kind: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    match kind:
        case msgspec.inspect.UnionType():
            return kind.types
        case msgspec.inspect.VarTupleType():
            return (kind.item_type,)
        case _:
            return ()


def _complete(struct: type[Struct], schema: dict[str, Any], *, spoken: bool) -> None:
    """Add what msgspec does not know: meanings, keys of dicts, and checks of the codec beyond the types."""
    properties = schema.get("properties", {})
    for name, meaning in meanings(struct).items():
        if name in properties:
            form = properties[name].get("description")
            properties[name] = {"description": f"{meaning} {form}" if form else meaning} | {
                key: value for key, value in properties[name].items() if key != "description"
            }
    _name_keys(struct, properties)
    if spoken:
        properties["schema_version"] = {
            "description": "Version of the wire contract; optional.",
            "anyOf": [
                {"type": "string", "pattern": r"^1(\.([0-9]{1,6}|x)){0,2}$"},
                {"type": "number", "minimum": 1, "exclusiveMaximum": 2},
                {"type": "null"},
            ],
        }
    if struct in (ModelExhausted, ModelRestored):
        schema["anyOf"] = [{"required": ["product"]}, {"required": ["model"]}]
    if struct is Step:
        properties["v"] = {"description": "Version of this layout, always the first field.", "const": STEP_VERSION}
        schema["required"] = ["v", *schema["required"]]


def _name_keys(struct: type[Struct], properties: dict[str, Any]) -> None:
    for field in msgspec.structs.fields(struct):
        keys = getattr(msgspec.inspect.type_info(field.type), "key_type", None)
        if isinstance(keys, msgspec.inspect.LiteralType):
            properties[field.encode_name]["propertyNames"] = {"enum": list(keys.values)}


def meanings(struct: type[Struct]) -> dict[str, str]:
    """Return the `#:` lines above each field, of the struct and of those that it inherits from."""
    found: dict[str, str] = {}
    for part in reversed(struct.__mro__):
        if not issubclass(part, Struct) or part is Struct:
            continue
        lines: list[str] = []
        for line in inspect.getsource(part).splitlines():
            text = line.strip()
            name = re.match(r"(\w+):", text)
            if text.startswith("#:"):
                lines.append(text[2:].strip())
            elif name is not None and lines:
                found[name[1]] = " ".join(lines)
                lines = []
            else:
                lines = []
    return found


# --- AsyncAPI --------------------------------------------------------------------------------------------------

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
    for topic in (*TOPICS, DECISION_SHADOW, *DEAD_LETTERS):
        does, action = ("read", "receive") if topic in INPUT_TOPICS else ("write", "send")
        operations[f"{does}.{topic}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{topic}"},
            "summary": f"slotwise {does}s `{topic}`.",
        }
    schemas = {
        struct.__name__: {"$ref": f"./json/{topic}.schema.json#/$defs/{struct.__name__}"}
        for topic, structs in TOPICS.items()
        for struct in _reached(structs)
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "slotwise",
            "version": "1.0.0",
            "description": "Gives each task of an LLM agent fleet to the slot where it is worth the most, "
            f"and says why. Values are JSON objects of at most {VALUE_BYTES_MAX} bytes. The input topics have the "
            "same number of partitions; the partition is murmur2 of the key, as Kafka's default partitioner has it. "
            "An installation may put a prefix before every topic name.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic: _channel(topic) for topic in (*TOPICS, DECISION_SHADOW, *DEAD_LETTERS)},
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
        names = [struct.__name__ for struct in TOPICS[DECISION_AUDIT if topic == DECISION_SHADOW else topic]]
    return {
        "address": topic,
        "description": _DESCRIPTIONS[topic],
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
        "headers": {
            "$ref": f"#/components/schemas/{'HeadersOut' if topic in (TASK_ROUTED, TASK_AWAIT_SLOT) else 'Headers'}"
        },
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
        "summary": "A record that was refused, byte for byte; its own headers stand before the ones named here. "
        "A task given up after its last attempt stands in `task.pending.dlq` too, as JSON with `task` and `story`.",
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


# --- The page --------------------------------------------------------------------------------------------------

_LINE_CHARS_MAX: Final = 118
_BLOCK: Final = re.compile(r"(<!-- (fields|example) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill_page(text: str) -> str:
    """Return the Markdown page with current tables and examples between its marks."""
    structs = {struct.__name__: struct for structs in TOPICS.values() for struct in _reached(structs)}

    def block(match: re.Match[str]) -> str:
        struct = structs[match[3]]
        return match[1] + (_field_table(struct) if match[2] == "fields" else _example(struct)) + match[4]

    return _BLOCK.sub(block, text)


def _example(struct: type[Struct]) -> str:
    members = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in EXAMPLES[struct].items()]
    lines = ["{" + members[0]]
    for member in members[1:]:
        lines[-1] += ","
        if len(lines[-1]) + len(member) < _LINE_CHARS_MAX:
            lines[-1] += " " + member
        else:
            lines.append(" " + member)
    return "```json\n" + "\n".join(lines) + "}\n```\n"


def _field_table(struct: type[Struct]) -> str:
    _, defs = msgspec.json.schema_components((struct,), ref_template="{name}")
    schema = defs[struct.__name__]
    _name_keys(struct, schema["properties"])
    said = meanings(struct)
    rows = ["| field | form | default | meaning |", "|---|---|---|---|"]
    for name, form in schema["properties"].items():
        if name in schema.get("required", ()):
            default = "required"
        elif form.get("default") is None:
            default = ""
        else:
            default = f"`{json.dumps(form['default'])}`"
        rows.append(f"| `{name}` | {_form(form)} | {default} | {said.get(name, '')} |")
    return "\n".join(rows) + "\n"


def _form(form: Mapping[str, Any]) -> str:
    """Describe the form of a JSON Schema in a few words."""
    match form:
        case {"anyOf": options}:
            words = " or ".join(_form(option) for option in options if option.get("type") != "null")
        case {"enum": values}:
            words = ", ".join(f"`{value}`" for value in values)
        case {"$ref": name}:
            words = f"{name}, see there"
        case {"pattern": pattern} if pattern in (ID_PATTERN, TIME_PATTERN):
            words = "id" if pattern == ID_PATTERN else "time"
        case {"propertyNames": {"enum": _} as keys, "additionalProperties": values}:
            words = f"object, keys {_form(keys)}, each value: {_form(values)}"
        case {"type": "object"}:
            words = f"object, each value: {_form(form['additionalProperties'])}"
        case {"type": "array"}:
            words = f"list{_range(form, 'minItems', 'maxItems', ' items')}, each: {_form(form['items'])}"
        case {"type": "string"}:
            words = f"text{_range(form, 'minLength', 'maxLength', ' characters')}"
        case _:
            words = f"{form['type']}{_range(form, 'minimum', 'maximum')}"
    return words


def _range(form: Mapping[str, Any], low: str, high: str, unit: str = "") -> str:
    if high in form:
        return f", {form.get(low, 0):,} to {form[high]:,}{unit}"
    return f", from {form[low]:,}{unit}" if low in form else ""


# --- Notation --------------------------------------------------------------------------------------------------


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


_PLAIN_KEY: Final = re.compile(r"[$A-Za-z_][\w.$-]*")
_PLAIN_TEXT: Final = re.compile(r"(?!\d+\.)[A-Za-z0-9./$][^:#\n\"\\]*[^\s:#\n\"\\]|[A-Za-z]")
_WORDS_OF_YAML: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def _yaml(node: object, indent: int = 0) -> str:
    """Write plain data as block YAML; text that could be read as another type is quoted as in JSON."""
    return "\n".join(_lines(node, "  " * indent))


def _lines(node: object, pad: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, child in node.items():
            name = key if _PLAIN_KEY.fullmatch(key) and key.lower() not in _WORDS_OF_YAML else json.dumps(key)
            if isinstance(child, Mapping | list) and child:
                yield f"{pad}{name}:"
                yield from _lines(child, pad + "  ")
            else:
                yield f"{pad}{name}: {_scalar(child)}"
    elif isinstance(node, list):
        for child in node:
            first, *rest = list(_lines(child, "")) if isinstance(child, Mapping | list) and child else [_scalar(child)]
            yield f"{pad}- {first}"
            yield from (f"{pad}  {line}" for line in rest)


def _scalar(value: object) -> str:
    if (
        isinstance(value, str)
        and _PLAIN_TEXT.fullmatch(value)
        and value.lower() not in _WORDS_OF_YAML
        and not re.match(r"[\d.+-]", value)
    ):
        return value
    return json.dumps(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).parent.parent))
