"""Two look-ups made from the event types: fields that hold a time, and fields that take one word of a closed list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, get_args

import msgspec

from schemas.events import Event
from schemas.vocabulary import TIME_PATTERN


def _structs(kind: msgspec.inspect.Type) -> Iterator[msgspec.inspect.StructType]:
    if isinstance(kind, msgspec.inspect.StructType):
        yield kind
        for field in kind.fields:
            yield from _structs(field.type)
    elif isinstance(kind, msgspec.inspect.UnionType):
        for member in kind.types:
            yield from _structs(member)


def _leaves(kind: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    if isinstance(kind, msgspec.inspect.UnionType):
        for member in kind.types:
            yield from _leaves(member)
    elif isinstance(kind, msgspec.inspect.DictType):
        yield from _leaves(kind.key_type)
    elif isinstance(kind, msgspec.inspect.Metadata):
        yield from _leaves(kind.type)
    else:
        yield kind


_STRUCTS: Final = tuple(s for kind in msgspec.inspect.multi_type_info(get_args(Event)) for s in _structs(kind))
#: The fields of each event that hold a time.
TIME_FIELDS: Final[Mapping[type, tuple[str, ...]]] = {
    struct.cls: tuple(
        field.name
        for field in struct.fields
        if any(getattr(leaf, "pattern", None) == TIME_PATTERN for leaf in _leaves(field.type))
    )
    for struct in _STRUCTS
}
#: The closed list of each field that has one.
CHOICES: Final[Mapping[str, tuple[object, ...]]] = {
    field.name: leaf.values
    for struct in _STRUCTS
    for field in struct.fields
    for leaf in _leaves(field.type)
    if isinstance(leaf, msgspec.inspect.LiteralType)
} | {"kind": tuple(struct.tag for struct in _STRUCTS if struct.tag_field == "kind")}
