"""The audit: `slotwise db migrate` creates it, `db maintain` its partitions; `slotwise explain` reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import RenderableType

from schemas.vocabulary import Millis
from streams.clock import SystemClock
from streams.commands import audit_text, explain_text
from streams.commands.console import busy, err, line, out, print_json
from streams.commands.options import Json, takes
from streams.errors import FAILED
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.views.parts import sentence_behind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.audit.report import Report

app = typer.Typer()
db_app = typer.Typer(help="Bring the audit database to the schema of this version.")
app.add_typer(db_app, name="db")


@db_app.command("migrate", epilog="Example: slotwise db migrate --database postgresql://owner@db/slotwise")
@takes("database", join=True)
def db_migrate(
    settings: Settings,
    *,
    print_admin_sql: Annotated[
        bool,
        typer.Option(
            "--print-admin-sql", help="Print what an administrator of the database runs once before; connect nowhere."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create or update tables, views and roles of the audit, and its partitions for the days ahead.

    The first time on a server the login must be allowed to create roles; or an administrator does that for it, with
    slotwise db migrate --print-admin-sql | psql -U postgres DATABASE.
    """
    from streams.database.migrations import admin_sql, migrate  # noqa: PLC0415 - brings the database driver along

    if print_admin_sql:
        statements = admin_sql(settings.database)
        if as_json:
            print_json({"sql": statements})
        else:
            typer.echo(statements)
        return
    with busy("Migrating the audit database; steps taken into the hourly sums:", quiet=as_json) as progress:
        ran = migrate(settings.database, progress=progress)
    if as_json:
        print_json({"migrated": ran})
    else:
        out.print("\n".join(ran) if ran else "The audit database is up to date.")


@db_app.command("maintain", epilog="Example: slotwise db maintain --keep-days 400")
@takes("database", join=True)
def db_maintain(
    settings: Settings,
    *,
    days_ahead: Annotated[int, typer.Option(min=0, max=366, help="Days to come that get their partitions.")] = 14,
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="Drop what is older, days whole. Default: nothing is dropped.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the audit's partitions of the days ahead, move misplaced rows, drop old days. Run it once a day.

    Balances of budgets stay correct when their old movements are dropped.
    """
    from streams.database.migrations import maintain  # noqa: PLC0415 - brings the database driver along

    with busy("Maintaining the audit database", quiet=as_json):
        done = maintain(settings.database, days_ahead=days_ahead, keep_days=keep_days)
    if as_json:
        print_json({"done": done})
    else:
        out.print("\n".join(done) if done else "There was nothing to do.")


@app.command(
    epilog="Example: slotwise explain t-17 --why-not opus, or slotwise explain --find 'typo readme' --since 3h"
)
@takes(
    *("database", "database_connect_timeout_s", "database_statement_timeout_s", "catalog", "policy", "journal"),
    *("broker", "topic_prefix", "group", "partitions", "step_bytes_max"),
    join=True,
)
def explain(
    settings: Settings,
    *,
    task_id: Annotated[str | None, typer.Argument(help="The task's id.", show_default=False)] = None,
    find: Annotated[
        str | None, typer.Option(metavar="WORDS", help="Look for tasks whose title has words that begin with these.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="SPAN|ISO", help="With --find: only decisions since then: 3h, 2d, 2026-11-21T15:00:00Z."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="With --find: most tasks shown.")] = 20,
    pool: Annotated[str | None, typer.Option(help="Its pool, where several have a task of that id.")] = None,
    mode: Annotated[str, typer.Option(help="live, shadow, replay or all.")] = "live",
    why_not: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Say which gate kept this model from it, and what would change that."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show why a task was routed or waits: every decision, with the verdict on each model.

    --find looks for a task by the words of its title: those found are listed, newest first; a single one is explained.
    --why-not is about the last decision. Ratings, prices and thresholds are those of the configured catalogue and
    policy; a note says so where the decision was made by others.
    """
    from streams.database.connection import Timeouts  # noqa: PLC0415
    from streams.views import explain as view  # noqa: PLC0415 - brings the database driver along

    modes, timeouts = None if mode == "all" else mode, Timeouts.of(settings)
    if find is not None and task_id is None:
        only = _find(settings, find, pool=pool, mode=modes, since=since, limit=limit, as_json=as_json)
        if only is None:
            return
        task_id, pool = only["task_id"], only["pool"]
    elif find is not None or task_id is None:
        raise typer.BadParameter("name one task, or look for tasks by --find WORDS.")
    result: object = None
    shown: RenderableType = ""
    unknown = False
    if why_not is not None:
        rulebook = file_rulebook(settings)
        found = view.explain_why_not(
            settings.database, task_id, why_not, rulebook, pool=pool, mode=modes, timeouts=timeouts
        )
        if found is not None:
            decision, answer = found
            result = {"decision_id": decision["decision_id"], **msgspec.to_builtins(answer)}
            shown = explain_text.render_why_not(decision, answer)
            unknown = answer.gate == "not_in_fleet" and why_not not in rulebook.models
    else:
        result = history = view.explain(settings.database, task_id, pool=pool, mode=modes, timeouts=timeouts)
        shown = explain_text.render(history)
    if as_json:
        print_json(result)
    elif result:
        out.print(shown)
    else:
        err.print(line(f"The audit has no decision about {task_id}: {_why_none(settings, pool)}"))
    if not result or unknown:
        raise typer.Exit(FAILED)


def _find(
    settings: Settings, words: str, *, pool: str | None, mode: str | None, since: str | None, limit: int, as_json: bool
) -> Mapping[str, Any] | None:
    """Look for tasks by the words of their titles and print them; return a single one, to be explained instead."""
    from streams.database.connection import Timeouts  # noqa: PLC0415
    from streams.operate.orders import since_ms  # noqa: PLC0415 - brings the Kafka client along
    from streams.views.find import find  # noqa: PLC0415 - brings the database driver along

    if not any(map(str.isalnum, words)):
        raise typer.BadParameter("--find has no word in it: give a word of the title, such as 'typo'.")
    found = find(
        settings.database,
        words,
        pool=pool,
        mode=mode,
        since_ms=None if since is None else Millis(since_ms(since, SystemClock().now_ms())),
        limit=limit,
        timeouts=Timeouts.of(settings),
    )
    if as_json:
        print_json(found)
    elif found.total > 1:
        out.print(explain_text.render_found(found))
    elif not found.total:
        searched = " ".join(filter(None, (mode or "", "decisions", f"in pool {pool}" if pool is not None else "")))
        behind = _behind(settings, pool)
        on_its_way = f" {sentence_behind(behind)}." if behind else ""
        err.print(line(f"{explain_text.found_nothing(found, searched)}{on_its_way}"))
    if not found.total:
        raise typer.Exit(FAILED)
    return found.tasks[0] if found.total == 1 and not as_json else None


def _why_none(settings: Settings, pool: str | None) -> str:
    """Say why the audit may have nothing about a task: it is behind the journal, or there is nothing."""
    behind = _behind(settings, pool)
    if behind is None:
        return "it was never sent, is not decided yet, or the audit is behind (the journal cannot be read)."
    if behind:
        return f"it may be on its way. {sentence_behind(behind)}: is `slotwise sink` running?"
    return "it was never sent, or is not decided yet."


def _behind(settings: Settings, pool: str | None) -> Mapping[int, int] | None:
    """Return how many steps the audit is behind the journal, by partition; None: the journal cannot be read."""
    import asyncio  # noqa: PLC0415

    from aiokafka.errors import KafkaError  # noqa: PLC0415 - brings the Kafka client along

    from streams.operate.parts import audit_view, journal_ends  # noqa: PLC0415
    from streams.operate.read_partitions import partitions_of  # noqa: PLC0415

    try:
        ends = asyncio.run(journal_ends(settings, partitions_of(settings, pool)))
        return audit_view(settings, ends, wait_s=0.0).behind
    except (KafkaError, ValueError, TimeoutError):
        return None


@app.command("audit", epilog="Example: slotwise audit --rederive")
@takes(
    *("broker", "database", "topic_prefix", "group", "partitions", "journal", "step_bytes_max", "catalog", "policy"),
    *("database_connect_timeout_s", "database_statement_timeout_s"),
    join=True,
)
def audit(
    settings: Settings,
    *,
    wait_s: Annotated[
        float,
        typer.Option("--wait-s", min=0.0, max=3600.0, help="Longest wait for what is on its way, in seconds."),
    ] = 10.0,
    rederive: Annotated[
        bool,
        typer.Option(
            "--rederive", help="Also make every step again from its inputs, by the configured catalogue and policy."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check that journal, topics and audit database agree, and that the journal keeps the promises of docs/audit.md.

    Reads everything that the journal still holds and writes nothing. Exit code 0: nothing is wrong; 1: something is,
    a sentence each; 3: broker or database do not answer.
    """
    import asyncio  # noqa: PLC0415

    from streams.audit.installation import audit_installation  # noqa: PLC0415 - brings clients of both servers along
    from streams.operate.verifying import deriving  # noqa: PLC0415
    from streams.topics import check_topics  # noqa: PLC0415

    check_topics(settings)
    rulebook = file_rulebook(settings)
    with busy("Auditing: journal records read", quiet=as_json) as progress:

        async def run() -> Report:
            if not rederive:
                return await audit_installation(settings, rulebook, wait_s=wait_s, progress=progress)
            async with deriving(settings, rulebook) as derive:
                return await audit_installation(settings, rulebook, wait_s=wait_s, derive=derive, progress=progress)

        report = asyncio.run(run())
    if as_json:
        print_json(report)
    else:
        out.print(audit_text.render(report))
    if not report.sound:
        raise typer.Exit(FAILED)
