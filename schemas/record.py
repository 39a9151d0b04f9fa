"""A record of Kafka as plain values: what is sent, and the headers of what is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]


class Record(Struct, frozen=True):
    """One record as a producer sends it."""

    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
