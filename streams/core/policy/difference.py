"""Compares two documents value by value: policies, catalogues, any struct that was read from a file."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct


class Difference(Struct, frozen=True):
    """One changed value; None: it is absent."""

    key: str
    old: Any
    new: Any


def values(document: Struct) -> dict[str, Any]:
    """Return every value of a document by its key, as `premium.ev_percentile` or `model[opus].tier`; with defaults."""
    found: dict[str, Any] = {}
    _walk(msgspec.to_builtins(document, builtin_types=(), str_keys=True), "", found)
    return found


def differences(old: Struct, new: Struct) -> tuple[Difference, ...]:
    """Return the values of the new document that differ from the old one, in the order of the old one."""
    before, after = values(old), values(new)
    return tuple(
        Difference(key, before.get(key), after.get(key))
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    )


def _walk(value: Any, key: str, found: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _walk(inner, f"{key}.{name}" if key else str(name), found)
    elif isinstance(value, list | tuple) and any(isinstance(inner, dict) for inner in value):
        # Rows are compared by id, so that an added row does not shift all that follow.
        for place, inner in enumerate(value, start=1):
            _walk(inner, f"{key}[{inner.get('id', place)}]", found)
    else:
        found[key] = value
