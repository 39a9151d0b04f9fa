"""What workers that route nothing decided, against what the present dispatcher chose, by a file or a table."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct
from psycopg import errors, sql
from psycopg.rows import dict_row

from schemas.vocabulary import from_millis
from streams.database.connection import DEFAULT_TIMEOUTS, Timeouts, connect, reading_audit
from streams.database.sql import QUERIES
from streams.errors import MISTAKE, SlotwiseError
from streams.secret import Dsn
from streams.text_file import read_text_file

#: `only_here`: the dispatcher's choices do not name the task; `only_there`: no decision is about it; `undecided`: it
#: waits here, or ended without a slot.
Match = Literal["other_model", "undecided", "only_there", "only_here", "same"]


class ChoicesError(SlotwiseError):
    """The choices of the dispatcher cannot be read; the message says where and why."""

    exit_code = MISTAKE


class Compared(Struct, frozen=True, kw_only=True):
    """One task on both sides."""

    match: Match
    task_id: str
    #: The model that the dispatcher chose; None: it names no such task.
    theirs: str | None
    #: The decision here; without one all that follows is None.
    pool: str | None = None
    outcome: str | None = None
    model: str | None = None
    tier: int | None = None
    reason_code: str | None = None
    reason: str | None = None
    decided_at: str | None = None
    title: str | None = None
    estimated_usd: float | None = None


class AgainstReport(Struct, frozen=True, kw_only=True):
    """All tasks, what differs first."""

    says: str
    #: By match.
    counts: dict[str, int]
    #: Routed tasks by model, on each side.
    theirs: dict[str, int]
    here: dict[str, int]
    tasks: tuple[Compared, ...]


def choices_in_file(path: str) -> dict[str, str]:
    """Read task ids and models from CSV with a heading, or from JSON lines.

    Raises:
        TextFileError: the file cannot be read.
        ChoicesError: a line has no `task_id` or no `model`.
    """
    text = read_text_file(path)
    if Path(path).suffix.lower() == ".csv":
        rows: list[Mapping[str, Any]] = list(csv.DictReader(text.splitlines()))
        first = 2
    else:
        first, rows = 1, []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                rows.append(msgspec.json.decode(line, type=dict[str, Any]) if line.strip() else {})
            except msgspec.MsgspecError as error:
                raise ChoicesError(f"Line {number} of {path} is no JSON object ({error}).") from None
    found: dict[str, str] = {}
    for number, row in enumerate(rows, first):
        if not row:
            continue
        task_id, model = row.get("task_id"), row.get("model")
        if not isinstance(task_id, str) or not isinstance(model, str) or not task_id or not model:
            raise ChoicesError(f"Line {number} of {path} needs task_id and model, as texts.")
        found[task_id] = model
    return found


def choices_in_table(dsn: Dsn | str, table: str, *, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> dict[str, str]:
    """Read task ids and models from a table or view of the audit's database, such as `dispatcher.choices`.

    Raises:
        ChoicesError: there is no such table, it lacks a column, or this login may not read it.
        DatabaseError: Postgres does not answer.
    """
    query = sql.SQL("SELECT task_id::text, model::text FROM {}").format(sql.Identifier(*table.split(".")))
    with connect(dsn, timeouts, application="slotwise shadow") as connection:
        try:
            rows = connection.execute(query).fetchall()
        except (errors.UndefinedTable, errors.UndefinedColumn, errors.InsufficientPrivilege) as error:
            said = " ".join(str(error).split()).partition(" LINE ")[0]
            raise ChoicesError(
                f"{table} is neither a file here nor a table with the columns task_id and model in the audit's "
                f"database ({said})."
            ) from None
    return {task_id: model for task_id, model in rows if task_id is not None and model is not None}


def compare(
    dsn: Dsn | str, journal: str, choices: Mapping[str, str], *, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> AgainstReport:
    """Compare the decisions of a journal with the choices of the dispatcher.

    Raises:
        DatabaseError: Postgres does not answer, or has no audit.
    """
    with connect(dsn, timeouts, application="slotwise shadow") as connection, reading_audit():
        cursor = connection.cursor(row_factory=dict_row)
        rows = cursor.execute(QUERIES["shadow_choices"], {"journal": journal}).fetchall()
    tasks = [_compared(row, choices.get(row["task_id"])) for row in rows]
    known = {one.task_id for one in tasks}
    tasks += [
        Compared(match="only_there", task_id=task_id, theirs=model)
        for task_id, model in choices.items()
        if task_id not in known
    ]
    order = list(Match.__args__)  # type: ignore[attr-defined]
    tasks.sort(key=lambda one: (order.index(one.match), one.decided_at or "", one.task_id))
    counts = Counter(one.match for one in tasks)
    both = counts["same"] + counts["other_model"]
    share = f" ({counts['same'] / both:.1%})" if both else ""
    return AgainstReport(
        says=f"{both} tasks were routed on both sides, {counts['same']} to the same model{share}; "
        f"{counts['undecided']} have no slot here, {counts['only_there']} are known there only, "
        f"{counts['only_here']} here only.",
        counts={match: counts[match] for match in order},
        theirs=dict(sorted(Counter(choices.values()).items())),
        here=dict(sorted(Counter(one.model for one in tasks if one.model is not None).items())),
        tasks=tuple(tasks),
    )


def _compared(row: Mapping[str, Any], theirs: str | None) -> Compared:
    match: Match = "same" if theirs == row["model"] else "other_model"
    if theirs is None:
        match = "only_here"
    elif row["outcome"] != "routed":
        match = "undecided"
    return Compared(
        match=match,
        theirs=theirs,
        **dict(row) | {"decided_at": from_millis(round(row["decided_at"].timestamp() * 1000))},
    )
