"""`slotwise journal`: looks at a record, passes over one that is none of slotwise's, and writes journals into files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from streams.clock import SystemClock
from streams.commands.confirm import confirm
from streams.commands.console import busy, err, line, out, print_json
from streams.commands.control import By, login
from streams.commands.options import Json, takes
from streams.commands.partitions import Partitions, chosen
from streams.settings import Settings

app = typer.Typer(help="Look at a record of the journal; pass over a foreign one; write steps and inputs into files.")

SETTINGS = ("broker", "topic_prefix", "group", "partitions", "step_bytes_max")

Partition = Annotated[int, typer.Argument(min=0, help="The journal's partition.", show_default=False)]
Offset = Annotated[int, typer.Argument(min=0, max=2**63 - 1, help="The record's offset.", show_default=False)]


@app.command("show", epilog="Example: slotwise journal show 0 17")
@takes(*SETTINGS, join=True)
def journal_show(settings: Settings, *, partition: Partition, offset: Offset, as_json: Json = False) -> None:
    """Show what a record of the journal is, and whether every reader passes over it."""
    from streams.operate.journal_records import look_at  # noqa: PLC0415 - brings the Kafka client along
    from streams.topics import check_topics  # noqa: PLC0415

    check_topics(settings)
    (found,) = asyncio.run(look_at(settings, partition, offset))
    if as_json:
        print_json(found)
        return
    out.print(line(f"Offset {offset} of partition {partition}: {found.what}"))
    out.print(line(f"{found.bytes} bytes, SHA-256 {found.sha256}"))
    if found.begins:
        out.print(line(found.begins))
    if found.skipped is not None:
        out.print(line(f"Skipped: {found.skipped.reason} ({found.skipped.by}, {found.skipped.at})"))
    elif found.refusal is not None:
        out.print(line(found.refusal))
    else:
        out.print(line(f"To pass over it: slotwise journal skip {partition} {offset} --reason TEXT"))


@app.command("skip", epilog="Example: slotwise journal skip 0 17 --reason 'a test producer had the wrong topic'")
@takes(*SETTINGS, join=True)
def journal_skip(
    settings: Settings,
    *,
    partition: Partition,
    offset: Offset,
    reason: Annotated[str, typer.Option(help="Why the record is none of slotwise's; stands in the journal.")],
    to: Annotated[
        int | None,
        typer.Option(
            "--to", metavar="OFFSET", min=0, max=2**63 - 1, help="Also the foreign records up to this offset."
        ),
    ] = None,
    by: By = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    as_json: Json = False,
) -> None:
    """Have every reader pass over a record that is none of slotwise's: a note about it is appended to the journal.

    A step of the partition is refused: what it says has happened. Then start the workers and sinks that stopped.
    """
    from streams.operate.journal_records import JournalRecordError, look_at, skip  # noqa: PLC0415 - the Kafka client
    from streams.topics import check_topics  # noqa: PLC0415

    who = by or login()
    for name, text in (("--reason", reason), ("--by", who)):
        if not text.strip() or not text.isprintable():
            raise typer.BadParameter("say it in one line of text.", param_hint=name)
    check_topics(settings, "administrator")
    found = asyncio.run(look_at(settings, partition, offset, to))
    if to is None and found[0].refusal is not None:
        raise JournalRecordError(
            f"The record at offset {offset} of partition {partition} is {found[0].what}. {found[0].refusal}"
        )
    wanted = [one for one in found if one.refusal is None and one.skipped is None]
    if wanted and not yes:
        for one in wanted:
            err.print(line(f"Offset {one.offset}: {one.what} ({one.bytes} bytes)"))
        confirm(
            f"Pass over {len(wanted)} records of partition {partition} for good?",
            unasked=typer.BadParameter(
                "there is no terminal to ask on: add --yes to pass over this.", param_hint="--yes"
            ),
        )
    notes = asyncio.run(skip(settings, wanted, reason=reason, by=who)) if wanted else []
    if as_json:
        print_json({"skipped": notes})
    elif notes:
        out.print(line(f"Every reader passes over {len(notes)} records now: start the workers and sinks that stopped."))
    else:
        out.print(line("Every foreign record there is skipped already: nothing was written."))


@app.command("export", epilog="Example: slotwise journal export recorded/ --from 7d")
@takes(*SETTINGS, "catalog", "policy", join=True)
def journal_export(
    settings: Settings,
    *,
    to: Annotated[Path, typer.Argument(metavar="DIR", help="A directory of its own.", show_default=False)],
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="SEQ|SPAN|ISO", help="First step whose inputs are written: number or time."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="SEQ|SPAN|ISO", help="Last step. Default: the journal's end.")
    ] = None,
    partition: Partitions = None,
    plain: Annotated[bool, typer.Option("--plain", help="Do not compress: five times the size, read faster.")] = False,
    as_json: Json = False,
) -> None:
    """Write the steps of the journal and their inputs into files, with which they can be made again without a broker.

    As JSON lines, compressed with gzip, and with the state before the first step where that is not the journal's first:
    slotwise replay --verify --recording DIR
    """
    from streams.operate.recording import record  # noqa: PLC0415 - brings the Kafka client along
    from streams.operate.spans import span_of  # noqa: PLC0415
    from streams.shipped import file_rulebook  # noqa: PLC0415
    from streams.topics import check_topics  # noqa: PLC0415

    span = span_of(since, until, SystemClock().now_ms())
    partitions = chosen(settings, None, partition or ())
    check_topics(settings)
    rulebook = file_rulebook(settings)
    with busy("Writing: steps", quiet=as_json) as progress:
        manifest = asyncio.run(
            record(settings, rulebook, partitions, span, to, compressed=not plain, progress=progress)
        )
    if as_json:
        print_json(manifest)
    else:
        steps = sum(one.steps for one in manifest.recorded.values())
        out.print(line(f"{steps:,} steps of {len(partitions)} partitions, with their inputs, are in {to}."))
