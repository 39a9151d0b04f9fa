"""`slotwise shadow`: another policy beside the live one: what it would decide otherwise, and what that would cost."""

from __future__ import annotations

import asyncio
import csv
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.table import Table

from streams.commands.confirm import confirm
from streams.commands.console import busy, err, line, out, print_json
from streams.commands.options import EVERYTHING, Json, takes
from streams.commands.run import until_signal
from streams.errors import FAILED, MISTAKE, SlotwiseError
from streams.settings import Settings

if TYPE_CHECKING:
    from schemas.shadow import Answer
    from streams.shadow.report import DifferenceView, ShadowReport, SideView

app = typer.Typer(help="Another policy beside the live one: it decides about the live inputs, and routes nothing.")

#: Those of its own rules are options of the command; the live ones are those of `slotwise up` or of the environment.
_FOLLOWING: Final = tuple(name for name in EVERYTHING if name not in ("policy", "catalog", "dry_run"))
_READING: Final = ("database", "database_connect_timeout_s", "database_statement_timeout_s")
#: Differences that are printed; `--limit` and `--json` have more.
SHOWN: Final = 20
#: It is part of the name of a consumer group.
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

Name = Annotated[str, typer.Argument(help="The shadow, as it was named at its start.")]


class ShadowWordError(SlotwiseError):
    """A name or a kind that cannot be; the message says which can."""

    exit_code = MISTAKE


@app.command("start", epilog="Example: slotwise shadow start --policy lift-p70.toml --name p70")
@takes(*_FOLLOWING, join=True)
def start(
    settings: Settings,
    *,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Its policy. Default: the live one of the files.")
    ] = None,
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Its catalogue. Default: the live one of the files.")
    ] = None,
    fleet: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL=N,...", help="So many slots of each model in each pool, in place of the live ones."
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Its name; several shadows may run at once.")] = "shadow",
    as_json: Json = False,
) -> None:
    """Decide about the live inputs by another policy, and keep what differs, until Ctrl-C or `slotwise shadow stop`.

    The fleet's real moves are taken as given: each difference is one of this policy, and no consequence of another.
    With --fleet it has slots of its own: its choices then have consequences, and its slots come free as the live work
    ends, or by times fitted to work that ended before.

    Started again it goes on where it was, also after kill -9; started twice, the two share the partitions. A shadow
    with other rules than before needs a `slotwise shadow stop` first. The workers do not notice it.
    """
    from streams.commands.what_if import fleet_of  # noqa: PLC0415 - as all that follows: starts slowly
    from streams.shadow.run import follow  # noqa: PLC0415
    from streams.shipped import file_rulebook  # noqa: PLC0415
    from streams.topics import check_topics  # noqa: PLC0415

    _require_name(name)
    own = {key: str(file) for key, file in (("policy", policy), ("catalog", catalog)) if file is not None}
    rulebook = file_rulebook(msgspec.structs.replace(settings, **own))
    slots = fleet_of(fleet, rulebook)
    check_topics(settings, "shadow")
    settings = msgspec.structs.replace(settings, log_json=settings.log_json or as_json)
    late = f"The broker at {settings.broker} or the database does not answer, and the shadow ends without it."

    def ready(sentence: str) -> None:
        err.print(line(f"{sentence} See `slotwise shadow diff {name}`; Ctrl-C ends it."))

    asyncio.run(until_signal(lambda stop: follow(settings, name, rulebook, stop, ready, fleet=slots), late=late))


@app.command("status", epilog="Example: slotwise shadow status")
@takes(*_READING, join=True)
def status(
    settings: Settings,
    *,
    name: Annotated[str | None, typer.Argument(help="Only this shadow. Default: all.")] = None,
    as_json: Json = False,
) -> None:
    """List shadows: what they have compared, how much differs, and their rules."""
    from streams.database.connection import Timeouts  # noqa: PLC0415 - brings the database driver along
    from streams.shadow.report import shadows  # noqa: PLC0415

    with busy("Asking the database", quiet=as_json):
        found = shadows(settings.database, name=name, timeouts=Timeouts.of(settings))
    if as_json:
        print_json({"shadows": found})
        return
    if not found:
        out.print("There is no shadow: begin one with `slotwise shadow start --policy FILE`.")
        return
    grid = Table("shadow", "state", "since", "decisions", "differ", "changed", "policy", "catalogue", "slots", box=None)
    for one in found:
        differ = sum(one.differences.values())
        numbers = (one.decisions, differ, one.changed)
        cells = (one.name, one.state, one.started_at, *numbers, one.policy, one.catalog, one.slots)
        grid.add_row(*(line(str(cell)) for cell in cells))
    out.print(grid)


@app.command("diff", epilog="Example: slotwise shadow diff p70 --kind other_model")
@takes(*_READING, "topic_prefix", "journal", join=True)
def diff(
    settings: Settings,
    *,
    name: Annotated[str | None, typer.Argument(help="The shadow. Default: the latest.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only differences of this kind, such as other_model.")] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="FILE|TABLE",
            help="Compare what `slotwise worker --dry-run` decided with these choices: CSV or JSON lines with task_id "
            "and model, or a table of the audit's database with these columns.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most differences.")] = SHOWN,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the differences as CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a shadow would have decided otherwise: changed choices first; money, waits and tiers of both sides.

    Exit code 1: there is no such shadow.
    """
    from streams.database.connection import Timeouts  # noqa: PLC0415 - brings the database driver along
    from streams.shadow.report import KINDS, report  # noqa: PLC0415

    if against is not None:
        _diff_against(settings, against, limit=limit, as_csv=as_csv, as_json=as_json)
        return
    if kind is not None and kind not in KINDS:
        raise ShadowWordError(f"{kind!r} is no kind of difference: use {', '.join(KINDS)}.")
    with busy("Asking the database", quiet=as_json or as_csv):
        found = report(settings.database, name, kind=kind, limit=limit, timeouts=Timeouts.of(settings))
    if as_json:
        print_json(found)
    elif as_csv:
        _print_csv(found)
    else:
        _print(found)


@app.command("stop", epilog="Example: slotwise shadow stop p70")
@takes(*_READING, join=True)
def stop(
    settings: Settings,
    *,
    name: Name,
    forget: Annotated[bool, typer.Option("--forget", help="Also remove all that it found, in every run.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """End the run of a shadow: its processes end within some seconds, and the next start begins where the journal is.

    Exit code 1: none was under way.
    """
    from streams.database.connection import Timeouts  # noqa: PLC0415 - brings the database driver along
    from streams.shadow.report import end  # noqa: PLC0415

    if forget and not yes:
        unasked = typer.BadParameter(f"All that the shadow {name} found is to be removed: say so with --yes.")
        confirm(f"Remove all that the shadow {name} found?", unasked=unasked)
    ended = end(settings.database, name, forget=forget, timeouts=Timeouts.of(settings))
    if as_json:
        print_json({"name": name, "ended": ended})
    else:
        what = "removed" if forget else "ended"
        out.print(line(f"{ended} runs of the shadow {name} {what}." if ended else f"No shadow {name} was under way."))
    if not ended:
        raise typer.Exit(FAILED)


def _diff_against(settings: Settings, against: str, *, limit: int, as_csv: bool, as_json: bool) -> None:
    """Show what workers that route nothing decided, against the choices of the present dispatcher."""
    from streams.database.connection import Timeouts  # noqa: PLC0415 - brings the database driver along
    from streams.shadow.against import Compared, choices_in_file, choices_in_table, compare  # noqa: PLC0415
    from streams.topics import name_in_audit  # noqa: PLC0415

    timeouts = Timeouts.of(settings)
    journal = name_in_audit(msgspec.structs.replace(settings, dry_run=True))
    with busy("Asking the database", quiet=as_json or as_csv):
        choices = (
            choices_in_file(against)
            if Path(against).is_file()
            else choices_in_table(settings.database, against, timeouts=timeouts)
        )
        found = compare(settings.database, journal, choices, timeouts=timeouts)
    if as_json:
        print_json(found)
        return
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(Compared.__struct_fields__)
        writer.writerows(msgspec.structs.astuple(one) for one in found.tasks)
        return
    out.print(line(found.says))
    shown = [one for one in found.tasks if one.match != "same"]
    grid = Table("match", "task", "there", "here", "why", box=None)
    for one in shown[:limit]:
        here = one.model or one.outcome or ""
        grid.add_row(*map(line, (one.match.replace("_", " "), one.task_id, one.theirs or "", here, one.reason or "")))
    if shown:
        out.print(grid)
    if len(shown) > limit:
        out.print(line(f"{len(shown) - limit} more: --limit, --csv, --json."))


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ShadowWordError(
            f"{name!r} cannot name a shadow: use up to 64 letters, digits, dots, dashes and underscores."
        )


def _print(found: ShadowReport) -> None:
    out.print(line(found.run.says))
    grid = Table("", "routed", "tiers 1, 2, 3", "estimated", "waited", "mean wait", "longest", box=None)
    for title, side in (("live", found.run.live), ("shadow", found.run.shadow)):
        grid.add_row(*map(line, (title, *_numbers(side))))
    out.print(grid)
    out.print(line(found.run.kinds))
    if found.differences:
        table = Table("kind", "task", "live", "shadow", "more $", "why", box=None)
        for one in found.differences:
            table.add_row(*map(line, _cells(one)))
        out.print(table)
    if found.more:
        out.print(line(f"{found.more} more: --limit, --kind, --csv, --json."))


def _numbers(side: SideView) -> tuple[str, ...]:
    tiers = ", ".join(str(side.tiers.get(tier, 0)) for tier in ("1", "2", "3"))
    return (
        str(side.routed),
        tiers,
        f"${side.estimated_usd:.4f}",
        str(side.waited),
        f"{side.wait_s_mean:.1f} s",
        f"{side.wait_s_max:.1f} s",
    )


def _cells(one: DifferenceView) -> tuple[str, ...]:
    more = "" if one.more_usd is None else f"{one.more_usd:+.4f}"
    why = one.shadow.reason or one.live.reason
    return one.kind.replace("_", " "), one.task_id, _said(one.live), _said(one.shadow), more, why


def _said(answer: Answer) -> str:
    if answer.outcome == "routed":
        return f"{answer.slot_id} ({answer.model}): {answer.reason_code}"
    return f"{answer.outcome or 'nothing'}: {answer.reason_code or 'no decision'}"


def _print_csv(found: ShadowReport) -> None:
    writer = csv.writer(sys.stdout)
    sides = ("outcome", "reason_code", "slot_id", "model", "tier", "complexity", "estimated_cost_uusd", "reason")
    plain = ("kind", "decided_at", "pool", "task_id", "attempt", "priority", "ev", "more_usd", "seq", "partition")
    writer.writerow([*plain, *(f"live_{name}" for name in sides), *(f"shadow_{name}" for name in sides)])
    for one in found.differences:
        answers = [getattr(side, name) for side in (one.live, one.shadow) for name in sides]
        writer.writerow([*(getattr(one, name) for name in plain), *answers])
