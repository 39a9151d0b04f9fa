"""`slotwise send`: events from JSON lines."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer

from schemas.codec import VALUE_BYTES_MAX
from streams.commands.console import busy, err, line, out, print_json
from streams.commands.options import Json, takes
from streams.errors import FAILED
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.access.rights import Part
    from streams.operate.send import Kind
    from streams.views.overview import RecoveredPartition

app = typer.Typer()


class EventKind(StrEnum):
    """What a line to send is."""

    task = "task"
    slot = "slot"
    control = "control"


#: Who sends events of a kind, where the broker looks at that.
SENDERS: Final[dict[EventKind, Part]] = {
    EventKind.task: "producer",
    EventKind.slot: "dispatcher",
    EventKind.control: "operator",
}


@app.command(epilog='Example: echo \'{"task_id":"t-1","pool":"main"}\' | slotwise send task --now')
@takes("broker", "topic_prefix", "group", "partitions", "step_bytes_max", "catalog", "policy", join=True)
def send(
    settings: Settings,
    *,
    kind: Annotated[EventKind, typer.Argument(help="What the lines are.", show_default=False)],
    file: Annotated[
        str, typer.Argument(help="File of JSON lines, one event each. Default: what is piped in; - reads it always.")
    ] = "",
    now: Annotated[bool, typer.Option("--now", help="Fill in `at` with the present where a line has none.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse lines with a field or a type of work that nothing knows.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send events: keyed by pool, each line checked first as the router will check it.

    Lines that the router would refuse or ignore as a duplicate are not sent but printed with the reason; the exit code
    is 1 then, and where there is no line at all. Names that nothing knows are noted.
    A task that was given up may be sent as it is on task.pending.dlq: with --now its time is the present, and it is
    done again.
    """
    from streams.operate.known_names import Known  # noqa: PLC0415
    from streams.operate.send import TOPICS  # noqa: PLC0415 - brings the Kafka client along
    from streams.operate.send import send as send_lines  # noqa: PLC0415
    from streams.topics import allows, check_topics  # noqa: PLC0415

    if not file and sys.stdin.isatty():
        raise typer.BadParameter("name a file of JSON lines, or pipe them in.", param_hint="FILE")
    if file not in ("", "-"):
        Path(file).open("rb").close()  # before anything else: this is the likelier mistake
    what: Kind = kind.value
    check_topics(settings, SENDERS[kind], only=TOPICS[what])
    checks = kind is not EventKind.control and allows(settings, "reader")
    if not checks and kind is not EventKind.control:
        err.print("Names are not looked up: the broker does not let this user read the journal.")
    with busy(f"Sending {what}s", quiet=as_json) as progress:
        known = Known(settings, lambda one: _partition(settings, one)) if checks else None
        sent = send_lines(settings, what, _lines(file), stamp=now, known=known, strict=strict, progress=progress)
    if as_json:
        print_json(sent)
    else:
        out.print(f"{sent.sent} of {sent.lines} lines sent to {sent.topic} ({sent.records} records).")
        for note in sent.notes:
            err.print(line(f"line {note.line}, sent: {note.reason}"))
        for refusal in sent.refusals:
            err.print(line(f"line {refusal.line}: {refusal.reason}"))
        if sent.refused > len(sent.refusals):
            err.print(f"... and {sent.refused - len(sent.refusals)} more lines.")
    if not sent.lines:
        err.print(f"There is no line to send in {'what was piped in' if file in ('', '-') else file}.", markup=False)
    if sent.refused or not sent.lines:
        raise typer.Exit(FAILED)


def _partition(settings: Settings, number: int) -> RecoveredPartition:
    from streams.operate import read_partitions  # noqa: PLC0415 - brings the Kafka client along

    return asyncio.run(read_partitions.read_partitions(settings, [number]))[number]


def _lines(file: str) -> Iterator[bytes]:
    if file in ("", "-"):
        yield from _bounded(sys.stdin.buffer)
        return
    with Path(file).open("rb") as lines:
        yield from _bounded(lines)


def _bounded(lines: IO[bytes]) -> Iterator[bytes]:
    """Return the lines; of one that no event is as long as, the beginning, which is refused for its length."""
    while line := lines.readline(VALUE_BYTES_MAX + 2):
        yield line
        while not line.endswith(b"\n") and (line := lines.readline(VALUE_BYTES_MAX)):
            pass
