"""Look-ups made from the event types: fields that hold a time, and fields that take one word of a closed list."""

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


def _times(struct: msgspec.inspect.StructType) -> Iterator[tuple[str, ...]]:
    for field in struct.fields:
        if any(getattr(leaf, "pattern", None) == TIME_PATTERN for leaf in _leaves(field.type)):
            yield (field.name,)
        for inner in _structs(field.type):
            yield from ((field.name, *path) for path in _times(inner))


_EVENTS: Final = tuple(
    kind for kind in msgspec.inspect.multi_type_info(get_args(Event)) if isinstance(kind, msgspec.inspect.StructType)
)
_STRUCTS: Final = tuple(struct for event in _EVENTS for struct in _structs(event))
#: The fields of each event that hold a time, those of its parts too: `("outcome", "retry_at")`.
TIME_FIELDS: Final[Mapping[type, tuple[tuple[str, ...], ...]]] = {event.cls: tuple(_times(event)) for event in _EVENTS}
#: The closed list of each field that has one.
CHOICES: Final[Mapping[str, tuple[object, ...]]] = {
    field.name: leaf.values
    for struct in _STRUCTS
    for field in struct.fields
    for leaf in _leaves(field.type)
    if isinstance(leaf, msgspec.inspect.LiteralType)
} | {"kind": tuple(struct.tag for struct in _STRUCTS if struct.tag_field == "kind")}
