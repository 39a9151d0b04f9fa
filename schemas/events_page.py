"""The tables and examples of docs/events.md, from the structs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas.examples import EXAMPLES
from schemas.json_schema import TOPICS, meanings, name_keys, structs_in
from schemas.vocabulary import ID_PATTERN, REF_PATTERN, TIME_PATTERN

_FORMS: Final = {ID_PATTERN: "id", REF_PATTERN: "URI reference, 1 to 2,048 characters", TIME_PATTERN: "time"}
_LINE_CHARS_MAX: Final = 118
_BLOCK: Final = re.compile(r"(<!-- (fields|example) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill_page(text: str) -> str:
    """Return the Markdown page with current tables and examples between its marks."""
    structs = {struct.__name__: struct for structs in TOPICS.values() for struct in structs_in(structs)}

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
    name_keys(struct, schema["properties"])
    described = meanings(struct)
    rows = ["| field | form | default | meaning |", "|---|---|---|---|"]
    for name, form in schema["properties"].items():
        if name in schema.get("required", ()):
            default = "required"
        elif form.get("default") is None:
            default = ""
        else:
            default = f"`{json.dumps(form['default'])}`"
        rows.append(f"| `{name}` | {_form(form)} | {default} | {described.get(name, '')} |")
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
        case {"pattern": pattern} if pattern in _FORMS:
            words = _FORMS[pattern]
        case {"contentMediaType": "application/json"}:
            words = "any JSON"
        case {"propertyNames": {"enum": _} as keys, "additionalProperties": values}:
            words = f"object, keys {_form(keys)}, each value: {_form(values)}"
        case {"type": "object"}:
            some = f"object{_range(form, 'minProperties', 'maxProperties', ' members')}"
            names = f", keys: {_form({'type': 'string'} | form['propertyNames'])}" if "propertyNames" in form else ""
            words = f"{some}{names}, each value: {_form(form['additionalProperties'])}"
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
