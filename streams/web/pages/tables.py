"""A table of a page: its columns and rows, as values; shown as HTML by the template, or sent as CSV or JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
from fastapi import Response
from msgspec import Struct
from msgspec.structs import replace

from streams.web.guard import PREFIX

#: How a value is shown: `time` and `since` are ISO times, `share` is 0..1, `word` has a colour.
Kind: TypeAlias = Literal[
    "text", "sentence", "id", "title", "number", "time", "since", "span", "usd", "share", "word", "words"
]
Format: TypeAlias = Literal["csv", "json"]
Row: TypeAlias = Mapping[str, Any]

#: Kinds of values that are numbers: each cell of them leads somewhere.
NUMBERS: Final = frozenset(("number", "span", "usd", "share"))


#: Commands to copy where there is nothing to show yet.
ANNOUNCE_A_SLOT: Final = 'echo \'{"slot_id":"haiku-1","pool":"main","model":"haiku"}\' | slotwise send slot --now'
SEND_A_TASK: Final = 'echo \'{"task_id":"t-1","pool":"main","title":"Fix typo"}\' | slotwise send task --now'


class Column(Struct, frozen=True):
    """One column; `name` is that of its value in the rows, and in CSV and JSON."""

    name: str
    title: str
    kind: Kind = "text"
    #: Where a cell leads to; None: nowhere.
    href: Callable[[Row], str | None] | None = None
    #: Whether where a cell leads has as many rows as it says.
    counts: bool = False


class Table(Struct, frozen=True, kw_only=True):
    """One table."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    #: Rows behind the others that keep their place, such as a total.
    foot: Sequence[Row] = ()
    #: The first row that the page shows, and how many; None: all. Files have all.
    window: tuple[int, int] | None = None
    #: Of a table that has a part of its rows: by which columns the page sorts all of them; None: it has all.
    sorts: Collection[str] | None = None
    #: As what the rows are sorted where the address does not say it.
    sort: str = ""
    #: Where the numbers of a row lead that have no way of their own.
    leads: Callable[[Row], str | None] | None = None
    #: Said in place of an empty table: a sentence, and a command to copy.
    empty: str = "Nothing."
    command: str = ""

    @property
    def shown(self) -> Sequence[Row]:
        """The rows that the page shows."""
        first, count = self.window or (0, len(self.rows))
        return [*self.rows[first : first + count], *self.foot]

    @property
    def before(self) -> int | None:
        """The first row of the page before this one; None: there is none."""
        first, count = self.window or (0, len(self.rows))
        return max(0, first - count) if first else None

    @property
    def following(self) -> int | None:
        """The first row of the page behind this one; None: there is none."""
        first, count = self.window or (0, len(self.rows))
        return first + count if first + count < len(self.rows) else None

    def can_sort(self, column: Column) -> bool:
        """Whether a sort by a column is of all rows that there are."""
        return self.sorts is None or column.name in self.sorts

    def link(self, column: Column, row: Row) -> str | None:
        """Return where a cell leads."""
        if column.href is not None:
            return column.href(row)
        return self.leads(row) if self.leads is not None and column.kind in NUMBERS else None


def to_task(row: Row) -> str:
    """Return where the task of a row is."""
    return f"{PREFIX}/tasks/{row['task_id']}?pool={row['pool']}"


def sorted_by(table: Table, name: str, *, descending: bool) -> Table:
    """Return a table with its rows by one column; rows without a value come last.

    Raises:
        KeyError: it has no such column.
    """
    if all(column.name != name for column in table.columns):
        raise KeyError(name)
    there = sorted((row for row in table.rows if row[name] is not None), key=lambda row: _place(row[name]))
    absent = [row for row in table.rows if row[name] is None]
    return replace(table, rows=[*(reversed(there) if descending else there), *absent])


def _place(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def as_csv(table: Table) -> bytes:
    """Return a table as CSV; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow([column.name for column in table.columns])
    for row in (*table.rows, *table.foot):
        writer.writerow([_cell(row[column.name]) for column in table.columns])
    return written.getvalue().encode(errors="backslashreplace")


def as_json(table: Table) -> bytes:
    """Return a table as JSON: a list of objects."""
    rows = [
        {column.name: _sendable(row[column.name]) for column in table.columns} for row in (*table.rows, *table.foot)
    ]
    return msgspec.json.encode({"table": table.name, "rows": rows})


def answer(table: Table, form: Format) -> Response:
    """Return a table as a file of that form."""
    headers = {"Cache-Control": "no-store"}
    if form == "json":
        return Response(as_json(table), media_type="application/json", headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="{table.name}.csv"'
    return Response(as_csv(table), media_type="text/csv; charset=utf-8", headers=headers)


def _sendable(value: Any) -> Any:
    # Halves of a UTF-16 pair are in no encoding.
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _cell(value: Any) -> Any:
    match value:
        case None:
            return ""
        case bool() | int() | float():
            return value
        case list() | tuple():
            return _text("; ".join(map(str, value)))
        case _:
            return _text(str(value))


def _text(text: str) -> str:
    return f"'{text}" if text.lstrip(" ")[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else text
