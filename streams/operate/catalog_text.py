"""Writes changed values into the text of a catalogue; comments, order, layout and line ends stay as they are. Pure."""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, InlineTable

from streams.errors import MISTAKE, SlotwiseError
from streams.operate.prices import Refreshed

_INDENT: Final = "  "


class LayoutError(SlotwiseError):
    """The values cannot be written into that text without harm to the rest; the message says what can be done."""

    exit_code = MISTAKE


def rewrite(text: str, refreshed: Sequence[Refreshed], priced_at: dt.date, source: str) -> str:
    """Write the changes into the text of a catalogue, with date and source.

    Raises:
        LayoutError: the result would not be that catalogue with those values.
    """
    values = {
        one.model: {
            **{change.key: change.new for change in one.changes},
            "priced_at": priced_at,
            "price_source": source,
        }
        for one in refreshed
        if one.found
    }
    ends = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    try:
        written = _written(text, values, ends)
    except TOMLKitError:  # it reads less than Python's reader, which took this text for a catalogue
        written = text
    if not _has(written, values, text):
        raise LayoutError(
            "The new values do not fit into the layout of this catalogue: write each model as a [[model]] table with "
            "one key a line, as `slotwise catalog show --text` does, or enter them by hand. Nothing was written."
        )
    return written


def _written(text: str, values: Mapping[str, Mapping[str, Any]], ends: str) -> str:
    document = tomlkit.parse(text)
    for table in document["model"]:
        now = table.unwrap()
        for key, value in values.get(now["id"], {}).items():
            if now.get(key) == value:
                continue
            if isinstance(table.get(key), AoT):
                del table[key]  # tables of their own, [[model.price_steps]], become one list
            item = tomlkit.value(_literal(value, "" if isinstance(table, InlineTable) else ends))
            item.trivia.trail = ends  # of a new line; a changed one keeps its own
            table[key] = item
    return tomlkit.dumps(document)


def _has(written: str, values: Mapping[str, Mapping[str, Any]], before: str) -> bool:
    """Whether a text is the one before with those values, and nothing else."""
    document = tomllib.loads(before)
    wanted = {**document, "model": [{**row, **values.get(row["id"], {})} for row in document["model"]]}
    try:
        return tomllib.loads(written) == wanted
    except tomllib.TOMLDecodeError:
        return False


def _literal(value: Any, ends: str = "") -> str:
    """Write a value as people do: counts in groups, one entry of a list a line; `ends` empty: all in one line."""
    match value:
        case int():
            return f"{value:_}"
        case dict():
            return f"{{ {', '.join(f'{key} = {_literal(inner)}' for key, inner in value.items())} }}"
        case [{}, {}, *_] if ends:
            return "".join(["[", *(f"{ends}{_INDENT}{_literal(entry)}," for entry in value), f"{ends}]"])
        case list():
            return f"[{', '.join(map(_literal, value))}]"
        case _:
            return str(tomlkit.item(value).as_string())
