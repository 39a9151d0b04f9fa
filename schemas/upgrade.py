"""Steps and snapshots of an earlier layout, brought to the present one; what has the present layout is not opened.

Layout 1 had one word, `held`, for two states: a slot with a task (now `leased`) and a task that may not be served yet
(now `delayed`). Only the rows that carry a state are opened; everything else passes as the bytes that it is.
"""

from __future__ import annotations

from types import ModuleType
from typing import Final, TypeAlias

import msgspec
from msgspec import Raw

_Fields: TypeAlias = dict[str, Raw]

#: Fields of a step that hold tasks; their state stands in `standing`.
_TASKS: Final = ("tasks", "moved", "dead")


def upgrade_step(raw: bytes) -> bytes:
    """Bring a journal record of layout 1 to layout 2.

    Raises:
        msgspec.DecodeError: the record is no step.
    """
    step = msgspec.json.decode(raw, type=_Fields)
    step["v"] = Raw(b"2")
    if "slots" in step:
        slots = msgspec.json.decode(step["slots"], type=list[_Fields])
        step["slots"] = Raw(msgspec.json.encode([_renamed(msgspec.json, row, "leased") for row in slots]))
    for name in _TASKS:
        if name in step:
            rows = msgspec.json.decode(step[name], type=list[_Fields])
            step[name] = Raw(msgspec.json.encode([_task(msgspec.json, row) for row in rows]))
    return msgspec.json.encode(step)


def upgrade_snapshot(chunk: bytes) -> bytes:
    """Bring a chunk of a snapshot of layout 1 to layout 2.

    Raises:
        msgspec.DecodeError: the chunk is of no snapshot.
    """
    wire = msgspec.msgpack
    fields = wire.decode(chunk, type=_Fields)
    match wire.decode(fields["type"]):
        case "slots":
            slots = wire.decode(fields["rows"], type=list[tuple[_Fields, Raw]])
            fields["rows"] = Raw(wire.encode([(_renamed(wire, row, "leased"), curve) for row, curve in slots]))
        case "tasks":
            tasks = wire.decode(fields["rows"], type=list[_Fields])
            fields["rows"] = Raw(wire.encode([_task(wire, row) for row in tasks]))
        case _:
            return chunk
    return wire.encode(fields)


def _task(wire: ModuleType, row: _Fields) -> _Fields:
    if "standing" not in row:
        return row
    status = wire.decode(row["standing"], type=_Fields)
    return {**row, "standing": Raw(wire.encode(_renamed(wire, status, "delayed")))}


def _renamed(wire: ModuleType, row: _Fields, word: str) -> _Fields:
    # A row without a state is damaged: the decoder of the present layout reports what is missing.
    if "state" not in row or wire.decode(row["state"], type=str) != "held":
        return row
    return {**row, "state": Raw(wire.encode(word))}
