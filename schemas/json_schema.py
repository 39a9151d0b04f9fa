"""The topics of the contract, and the JSON Schema of each, from the structs.

The structs are the only source: names, limits and docstrings come from them, the meaning of a field from the `#:` lines
above it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

from schemas.decision import STEP_VERSION, Step
from schemas.events import (
    OUTPUTS,
    FleetControl,
    ModelExhausted,
    ModelRestored,
    SlotFreed,
    TaskPending,
)
from schemas.shadow import ShadowDifference
from schemas.vocabulary import (
    DECISION_AUDIT,
    DECISION_DIFFERENCE,
    FLEET_CONTROL,
    INPUT_TOPICS,
    MOMENT_PATTERN,
    SLOT_FREED,
    TASK_AWAIT_SLOT,
    TASK_CANCELLED,
    TASK_FINISHED,
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
    **{topic: (struct,) for topic, struct in OUTPUTS.items()},
    DECISION_AUDIT: (Step,),
    DECISION_DIFFERENCE: (ShadowDifference,),
}
#: The journal of a router that routes nothing has the layout of the journal.
DECISION_SHADOW: Final = "decision.shadow"
#: Inputs that are sent to a replay, and the steps that it makes of them; these topics are made when one is needed.
ROUTING_REPLAY: Final = "routing.replay"
DECISION_REPLAY: Final = "decision.replay"
#: Topics that carry what other topics carry.
LIKE_OTHERS: Final[Mapping[str, tuple[str, ...]]] = {
    DECISION_SHADOW: (DECISION_AUDIT,),
    ROUTING_REPLAY: INPUT_TOPICS,
    DECISION_REPLAY: (DECISION_AUDIT,),
}
DEAD_LETTERS: Final = tuple(f"{topic}.dlq" for topic in INPUT_TOPICS)

DESCRIPTIONS: Final[Mapping[str, str]] = {
    TASK_PENDING: "Tasks that want a slot.",
    SLOT_FREED: "Slots that announce themselves, or are free again.",
    FLEET_CONTROL: "Events of operators, probes and billing. With `pool` it concerns that pool and is keyed by it; "
    "without, the same record stands in every partition, without a key.",
    TASK_ROUTED: "Tasks that have a slot. Delivered at least once, in order per pool; dedupe by `decision_id`.",
    TASK_AWAIT_SLOT: "Tasks that wait, each time their headline reason changes, and waits that ended without a slot.",
    TASK_CANCELLED: "Work that is to stop, for the dispatcher that runs it. At least once, in order per pool.",
    TASK_FINISHED: "Tasks that are over, for who waits for them. At least once, in order per pool.",
    DECISION_AUDIT: "The journal: one step a record, the only truth about what happened. A step can concern several "
    "pools of its partition, so its key means nothing.",
    DECISION_DIFFERENCE: "Where a shadow differs from the live decisions, with both sides; keyed by task. "
    "At least once: dedupe by `run` and `difference_id`.",
    DECISION_SHADOW: "Steps of dry and replay runs: decided, never acted upon.",
    ROUTING_REPLAY: "Inputs of a replay: records of the input topics, by `ce_type`, each at the time of its `ce_time`.",
    DECISION_REPLAY: "Steps of a replay: decided, never acted upon.",
} | {
    dead: f"Records of `{topic}` that were refused: raw key and value, with headers that say why and where from."
    for dead, topic in zip(DEAD_LETTERS, INPUT_TOPICS, strict=True)
}

#: Name of the definition for fields without a type of their own.
ANY_JSON: Final = "AnyJson"
_REFERENCE: Final = {"$ref": f"#/$defs/{ANY_JSON}"}
_NO_NUL: Final = r"^[^\u0000]*$"
_FLOAT_MAX: Final = sys.float_info.max

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema(topic: str) -> dict[str, Any]:
    """Return the JSON Schema of a topic's values: a reference, and each struct under `$defs`."""
    structs = TOPICS[topic]
    _, defs = msgspec.json.schema_components(structs, ref_template="#/$defs/{name}")
    for struct in structs_in(structs):
        _complete(struct, defs[struct.__name__], spoken=topic in INPUT_TOPICS and struct in structs)
        if topic != DECISION_AUDIT:
            _put_json(defs[struct.__name__])
        if topic in INPUT_TOPICS:
            _narrow(defs[struct.__name__])
    if topic in (*INPUT_TOPICS, TASK_ROUTED):
        defs[ANY_JSON] = _any_json()
    references = [{"$ref": f"#/$defs/{struct.__name__}"} for struct in structs]
    return {
        "$schema": _DIALECT,
        "$id": f"urn:slotwise:{topic}:v{STEP_VERSION if structs == (Step,) else 1}",
        "title": topic,
        "description": DESCRIPTIONS[topic],
        **(references[0] if len(references) == 1 else {"oneOf": references}),
        "$defs": defs,
    }


def structs_in(structs: tuple[type[Struct], ...]) -> list[type[Struct]]:
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
    name_keys(struct, properties)
    if spoken:
        properties["schema_version"] = {
            "description": "Version of the wire contract; optional.",
            "anyOf": [
                {"type": "string", "pattern": r"^1(\.([0-9]{1,6}|x)){0,2}$(?!\n)"},
                {"type": "number", "minimum": 1, "exclusiveMaximum": 2},
                {"type": "null"},
            ],
        }
    if struct in (ModelExhausted, ModelRestored):
        schema["anyOf"] = [
            {"required": [name], "properties": {name: {"type": "string"}}} for name in ("product", "model")
        ]
    if struct is SlotFreed:
        nothing = {"type": "null"}
        schema["anyOf"] = [
            {"properties": {"state": {"const": "free"}}},
            {
                "required": ["lease"],
                "properties": {"state": {"const": "working"}, "lease": {"not": nothing}, "outcome": nothing},
            },
            {"properties": {"state": {"enum": ["idle", "leaving"]}, "lease": nothing, "outcome": nothing}},
        ]
    if struct is Step:
        properties["v"] = {"description": "Version of this layout, always the first field.", "const": STEP_VERSION}
        schema["required"] = ["v", *schema["required"]]


def _put_json(schema: dict[str, Any]) -> None:
    """Make a field that holds JSON as text the JSON itself, as it is on the wire."""
    for name, form in schema.get("properties", {}).items():
        if any(option.get("contentMediaType") == "application/json" for option in form.get("anyOf", ())):
            meaning = {key: form[key] for key in ("description",) if key in form}
            schema["properties"][name] = meaning | _REFERENCE


def _narrow(schema: dict[str, Any]) -> None:
    """Add what events must fulfil on arrival, beyond the types; a journal may hold what earlier versions took."""
    for inner in schema.values():
        for part in inner if isinstance(inner, list) else [inner]:
            if isinstance(part, dict):
                _narrow(part)
    if "propertyNames" in schema and "enum" not in schema["propertyNames"]:
        schema["propertyNames"]["pattern"] = _NO_NUL
    match schema:
        case {"pattern": pattern}:
            schema["pattern"] = MOMENT_PATTERN if pattern == TIME_PATTERN else pattern
        case {"type": "string"}:
            schema["pattern"] = _NO_NUL
        case {"type": "number"} if "exclusiveMaximum" not in schema:
            schema |= {"minimum": -_FLOAT_MAX, "maximum": _FLOAT_MAX} | schema
        case {"type": "object", "properties": dict()}:
            schema |= {"propertyNames": {"pattern": _NO_NUL}, "additionalProperties": _REFERENCE}


def _any_json() -> dict[str, Any]:
    """Return what a value may be that has no type of its own: no NUL, and numbers that a double can hold."""
    schema: dict[str, Any] = {
        "description": "Any JSON without NUL, nested at most 32 deep with its record.",
        "anyOf": [
            {"type": ["null", "boolean"]},
            {"type": "number"},
            {"type": "string"},
            {"type": "array", "items": _REFERENCE},
            {"type": "object", "propertyNames": {"pattern": _NO_NUL}, "additionalProperties": _REFERENCE},
        ],
    }
    _narrow(schema)
    return schema


def name_keys(struct: type[Struct], properties: dict[str, Any]) -> None:
    """Add the closed list of keys to each field that is a dict with one."""
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
