"""`slotwise dlq`: the dead letters of all topics: what was refused or given up, and what becomes of it."""

from __future__ import annotations

import asyncio
import base64
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from schemas.vocabulary import FLEET_CONTROL, SLOT_FREED, TASK_PENDING
from streams.clock import SystemClock
from streams.commands.confirm import confirm
from streams.commands.console import busy, err, line, out, print_json
from streams.commands.control import By, login
from streams.commands.options import Json, takes
from streams.errors import FAILED
from streams.secret import masked
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.access.rights import Part
    from streams.operate.dead_letters import Treatment
    from streams.views.dead_letters import DeadLetters, DeadLetterView, StoredRecord

app = typer.Typer(help="Dead letters: records that were refused and tasks that were given up, of all topics.")

SETTINGS: Final = ("broker", "topic_prefix", "group", "partitions", "step_bytes_max")
#: Refusals of a replay that are printed; `--json` has all.
SHOWN_MAX: Final = 20


class InputTopic(StrEnum):
    """An input topic; its dead letters are in `<topic>.dlq`."""

    task_pending = TASK_PENDING
    slot_freed = SLOT_FREED
    fleet_control = FLEET_CONTROL


class DeadLetterState(StrEnum):
    """What became of a dead letter."""

    new = "new"
    replayed = "replayed"
    dropped = "dropped"


Topic = Annotated[InputTopic | None, typer.Option(help="Only of this topic. Default: of all three.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Only those whose reason has this in it.")]
Since = Annotated[
    str | None, typer.Option(metavar="SPAN|ISO", help="Only newer ones: 30m, 3h, 2d, or 2026-11-21T15:00:00Z.")
]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[DEAD_LETTER]...", help="As `list` shows them: task.pending/3/17.")
]
All = Annotated[bool, typer.Option("--all", help="All that are new.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list", epilog="Example: slotwise dlq list --since 3h --reason partitioner")
@takes(*SETTINGS, join=True)
def dlq_list(
    settings: Settings,
    *,
    topic: Topic = None,
    reason: Reason = None,
    since: Since = None,
    state: Annotated[DeadLetterState | None, typer.Option(help="Only these. Default: all.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """List dead letters, the newest first: topic, partition and offset, age, id, state, and the reason."""
    views = _selected(_read(settings), topic=topic, reason=reason, since=since, state=state)
    shown = views[:limit]
    if as_json:
        print_json({"dead_letters": shown, "more": len(views) - len(shown)})
        return
    from streams.views.dead_letters import age  # noqa: PLC0415 - only this form needs it

    grid = Table("dead letter", "written", "age", "id", "state", "reason", box=None)
    for one in shown:
        grid.add_row(*map(_shown, (one.dead_letter, one.at, age(one.age_s), one.id or "", one.state, one.reason)))
    if shown:
        out.print(grid)
    new = sum(one.state == "new" for one in views)
    more = f", {len(views) - len(shown)} not shown (--limit)" if len(views) > len(shown) else ""
    out.print(f"{len(views)} dead letters, {new} new{more}.")


@app.command("show", epilog="Example: slotwise dlq show task.pending/3/17")
@takes(*SETTINGS, join=True)
def dlq_show(
    settings: Settings,
    *,
    dead_letters: Annotated[
        list[str], typer.Argument(metavar="DEAD_LETTER...", help="As `list` shows them.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Show whole records: where they came from, why they were refused, key, headers and value.

    Characters that act on a terminal are escaped, and passwords in addresses masked; --json has every byte.
    """
    from streams.operate.dead_letters import named, records_at  # noqa: PLC0415 - brings the Kafka client along

    views = named(_read(settings), dead_letters)
    records = {one.address: one for one in asyncio.run(records_at(settings, views))}
    if as_json:
        print_json([{"about": view, "record": _plain(records.get(view.dead_letter))} for view in views])
        return
    for view in views:
        _print_whole(view, records.get(view.dead_letter))


@app.command("replay", epilog="Example: slotwise dlq replay task.pending/3/17 --dry-run")
@takes(*SETTINGS, join=True)
def dlq_replay(
    settings: Settings,
    *,
    dead_letters: Names = None,
    topic: Topic = None,
    reason: Reason = None,
    since: Since = None,
    everything: All = False,
    again: Annotated[
        bool, typer.Option("--again", help="Those named, also if they were replayed or dropped before.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    yes: Yes = False,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Send dead letters again, with key and headers as they were, to the topics they came from; mark them as replayed.

    Name them, or choose from the new ones by --topic, --reason, --since or --all. A task that was given up is sent as
    the task, with the present as its `at`, and is done again. What would be refused again is not sent. Exit code 1:
    some were not sent.
    """
    from streams.operate.dead_letters import replay  # noqa: PLC0415 - brings the Kafka client along

    _check_selection("replay", dead_letters, topic, reason, since, everything=everything)
    found = _read(settings, "operator")
    views = _meant(found, dead_letters, topic=topic, reason=reason, since=since, again=again)
    if not dry_run:
        _confirm("Replay", views, asked=not dead_letters and not yes)
    with busy("Replaying", quiet=as_json) as progress:
        _report(
            asyncio.run(replay(settings, found, views, by=by or login(), dry_run=dry_run, progress=progress)), as_json
        )


@app.command("drop", epilog='Example: slotwise dlq drop task.pending/3/17 --because "sent by a test"')
@takes(*SETTINGS, join=True)
def dlq_drop(
    settings: Settings,
    *,
    dead_letters: Names = None,
    because: Annotated[str, typer.Option(help="Why they need nothing more.", show_default=False)],
    topic: Topic = None,
    reason: Reason = None,
    since: Since = None,
    everything: All = False,
    yes: Yes = False,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Mark dead letters as done with: `check` passes over them, and `list` says who dropped them and why.

    Nothing is deleted; retention takes them in time.
    """
    from streams.operate.dead_letters import drop  # noqa: PLC0415 - brings the Kafka client along

    _check_selection("drop", dead_letters, topic, reason, since, everything=everything)
    found = _read(settings, "operator")
    views = _meant(found, dead_letters, topic=topic, reason=reason, since=since, again=False)
    _confirm("Drop", views, asked=not dead_letters and not yes)
    _report(asyncio.run(drop(settings, found, views, by=by or login(), because=because)), as_json)


# Which ones -----------------------------------------------------------------------------------------------------------


def _read(settings: Settings, part: Part = "reader") -> DeadLetters:
    from streams.operate.dead_letters import read_dead_letters  # noqa: PLC0415 - brings the Kafka client along
    from streams.topics import check_topics  # noqa: PLC0415

    check_topics(settings, part)
    return asyncio.run(read_dead_letters(settings))


def _check_selection(
    verb: str,
    dead_letters: list[str] | None,
    topic: InputTopic | None,
    reason: str | None,
    since: str | None,
    *,
    everything: bool,
) -> None:
    filtered = everything or topic is not None or reason is not None or since is not None
    if not dead_letters and not filtered:
        raise typer.BadParameter(
            f"name what to {verb}, as `slotwise dlq list` shows it, or choose by --topic, --reason, --since or --all."
        )
    if dead_letters and filtered:
        raise typer.BadParameter("either name dead letters, or choose by --topic, --reason, --since or --all.")


def _selected(
    found: DeadLetters,
    *,
    topic: InputTopic | None,
    reason: str | None,
    since: str | None,
    state: DeadLetterState | None,
) -> list[DeadLetterView]:
    from streams.operate.orders import since_ms  # noqa: PLC0415 - brings the Kafka client along
    from streams.views.dead_letters import Selection  # noqa: PLC0415

    now_ms = SystemClock().now_ms()
    selection = Selection(
        topic=None if topic is None else topic.value,
        reason=reason,
        since_ms=None if since is None else since_ms(since, now_ms),
        state=None if state is None else state.value,
    )
    return found.views(now_ms, selection)


def _meant(
    found: DeadLetters,
    dead_letters: list[str] | None,
    *,
    topic: InputTopic | None,
    reason: str | None,
    since: str | None,
    again: bool,
) -> list[DeadLetterView]:
    from streams.operate.dead_letters import named, require_new  # noqa: PLC0415 - brings the Kafka client along

    if not dead_letters:
        return _selected(found, topic=topic, reason=reason, since=since, state=DeadLetterState.new)
    views = named(found, dead_letters)
    if not again:
        require_new(views)
    return views


def _confirm(verb: str, views: list[DeadLetterView], *, asked: bool) -> None:
    if not views or not asked:
        return
    many = "1 dead letter" if len(views) == 1 else f"{len(views)} dead letters"
    unasked = typer.BadParameter(f"{verb.lower()} {many}? To do it without being asked: --yes.")
    confirm(f"{verb} {many}?", unasked=unasked)


# Output ---------------------------------------------------------------------------------------------------------------


def _report(done: Treatment, as_json: bool) -> None:  # noqa: FBT001 - the option of every command
    if as_json:
        print_json(done)
    else:
        _print_treatment(done)
    if done.not_done:
        raise typer.Exit(FAILED)


def _print_treatment(done: Treatment) -> None:
    if done.dry_run:
        for one in done.dead_letters[:SHOWN_MAX]:
            if one.done:
                out.print(_shown(f"{one.dead_letter} ({one.id or 'no id'}) would be sent to {one.to}"))
    verb = "would be replayed" if done.dry_run else done.mark
    out.print(f"{done.done} of {len(done.dead_letters)} dead letters {verb}.")
    problems = [one for one in done.dead_letters if one.problem is not None]
    for one in problems[:SHOWN_MAX]:
        err.print(_shown(f"{one.dead_letter} ({one.id or 'no id'}) was not sent: {one.problem}"))
    if len(problems) > SHOWN_MAX:
        err.print(f"... and {len(problems) - SHOWN_MAX} more.")


def _print_whole(view: DeadLetterView, record: StoredRecord | None) -> None:
    out.print(_shown(f"{view.dead_letter}: {view.reason}"))
    kind = "task given up" if view.given_up else "record refused"
    rows = [("what", f"{kind}{f', {view.id}' if view.id else ''}"), ("written", view.at), ("state", view.state)]
    if view.marked is not None:
        why = f": {view.marked.because}" if view.marked.because else ""
        rows.append(("", f"by {view.marked.by} at {view.marked.at}{why}"))
    if view.origin is not None:
        rows.append(("was at", view.origin))
    if record is None:
        rows.append(("record", "no longer in its topic: retention has taken it"))
    else:
        rows.append(("key", "none" if record.key is None else _text(record.key)))
        rows += [("header", f"{name}: {_text(content or b'')}") for name, content in record.headers]
    for name, text in rows:
        out.print(_shown(f"  {name:<8} {text}"))
    if record is not None:
        for part in _value_lines(record.value):
            out.print(_shown(f"    {part}"))
    out.print()


def _value_lines(value: bytes | None) -> list[str]:
    """The value as JSON with its fields under each other, or as text as it is."""
    if value is None:
        return ["no value"]
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=False).split("\n")
    except (ValueError, RecursionError):
        return _text(value).split("\n")


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _shown(text: str) -> Any:
    return line(masked(text))


def _plain(record: StoredRecord | None) -> Any:
    """The record for programs: texts where the bytes are UTF-8, else base64."""
    if record is None:
        return None
    return {
        "timestamp": record.timestamp,
        **_bytes("key", record.key),
        **_bytes("value", record.value),
        "headers": [{"name": name, **_bytes("value", content)} for name, content in record.headers],
    }


def _bytes(name: str, raw: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if raw is None else raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw or b"").decode()}
