"""Integers that a producer wrote with a fraction of zero (`1800.0`, `1.8e3`), as integers.

JSON has one kind of number, and to JSON Schema `1800.0` is an integer; pandas, Lua and R write it so. Decoding is
strict; a record that it refuses is looked at here, by the types of the struct that was meant.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, inspect

#: Larger ones are beyond every limit of the contract, and stay as they are.
_INT_MAX: Final = 2**63


def with_integers(value: bytes, fields: dict[str, Any], meant: inspect.Type) -> bytes:
    """Return the record with integers where `meant` has them; the parts that need no change stay byte for byte."""
    if isinstance(meant, inspect.UnionType):
        meant = next((kind for kind in meant.types if getattr(kind, "tag", None) == fields.get("kind")), meant)
    if not isinstance(meant, inspect.StructType):
        return value
    changed = {
        field.name: new
        for field in meant.fields
        if field.name in fields and (new := _integral(old := fields[field.name], field.type)) is not old
    }
    if not changed:
        return value
    raws = msgspec.json.decode(value, type=dict[str, Raw])
    return msgspec.json.encode(raws | {name: Raw(msgspec.json.encode(new)) for name, new in changed.items()})


def _integral(value: Any, meant: inspect.Type) -> Any:
    """Return the value with integers; the same object where nothing changes."""
    match meant:
        case inspect.Metadata():
            return _integral(value, meant.type)
        case inspect.UnionType():
            return next((new for kind in meant.types if (new := _integral(value, kind)) is not value), value)
        case inspect.IntType() if type(value) is float and value.is_integer() and abs(value) < _INT_MAX:
            return int(value)
        case inspect.LiteralType() if type(value) is float and value in meant.values:
            return int(value)
        case inspect.StructType() if type(value) is dict:
            return _changed(value, {field.name: field.type for field in meant.fields})
        case inspect.DictType() if type(value) is dict:
            return _changed(value, dict.fromkeys(value, meant.value_type))
    return value


def _changed(old: dict[str, Any], kinds: dict[str, inspect.Type]) -> dict[str, Any]:
    new = {name: _integral(value, kinds[name]) if name in kinds else value for name, value in old.items()}
    return new if any(new[name] is not old[name] for name in old) else old
