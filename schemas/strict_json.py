"""Strict JSON: one object, unambiguous in every part, or a refusal.

A value passes two independent parsers: orjson reads all of it, ignored fields included; msgspec, in `codec`, reads the
known fields. The exact searches (for a key that stands twice, for a real NUL) run only when a cheap check fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

from schemas.refusals import RefusedError, describe, quote

#: Deepest nesting of objects and arrays, the record itself counted.
DEPTH_MAX: Final = 32

_SPACE_AFTER_QUOTE: Final = re.compile(rb'"[ \n\t\r]')


def parse_object(value: bytes) -> dict[str, Any]:
    """Parse a value that is one JSON object; refuse one that two readers could read in two ways."""
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise RefusedError(_explain_json(value, error)) from None
    if type(fields) is not dict:
        raise RefusedError(f"value: is {describe(fields)}, not one JSON object.")
    if value.count(b"{") + value.count(b"[") > DEPTH_MAX and _is_deep(fields):
        raise RefusedError(f"value: objects and arrays are nested deeper than {DEPTH_MAX}.")
    # Every key is followed by `":`, unless there is space between the two. So where no quote is followed by space,
    # as many `":` as keys means that no key stands twice. Text may hold a `":` too: then the exact search decides.
    # As many as the outermost keys: there are no others.
    written = value.count(b'":')
    if (written != len(fields) and written != _count_keys(fields)) or _SPACE_AFTER_QUOTE.search(value):
        _check_keys(value)
    if b"\\" in value and any("\0" in text for text in _texts(fields)):
        raise RefusedError("value: holds the character NUL (\\u0000), which no database column takes.")
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
                raise RefusedError(f"field {quote(name)}: stands twice in one object; it is unclear which one counts.")
            seen.add(name)

    # Numbers were checked before; kept as text they cost nothing and meet no limit of Python.
    json.loads(value, object_pairs_hook=unique, parse_int=str, parse_float=str)


def _explain_json(value: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as bad:
        return f"value: byte {bad.start} ({value[bad.start]:#04x}) is not UTF-8."
    if error.msg.startswith("depth"):
        return f"value: objects and arrays are nested deeper than {DEPTH_MAX}."
    near = text[error.pos : error.pos + 40]
    if error.msg.startswith("number is infinity") or re.match(r"-?(NaN|Inf)", near):
        return f"value: numbers must be finite, and at character {error.pos} stands {quote(near, 40)}."
    where = f", where {quote(near, 40)} stands" if near else ""
    return f"value: is not JSON; {error.msg} at character {error.pos}{where}."
