"""The audit: `slotwise db migrate` creates it, `db maintain` its partitions; `slotwise explain` reads it."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType

from streams.commands import audit_text, explain_text
from streams.commands.console import busy, err, line, out, print_json
from streams.commands.options import Json, takes
from streams.errors import FAILED
from streams.settings import Settings
from streams.shipped import file_rulebook

app = typer.Typer()
db_app = typer.Typer(help="Bring the audit database to the schema of this version.")
app.add_typer(db_app, name="db")


@db_app.command("migrate", epilog="Example: slotwise db migrate --database postgresql://owner@db/slotwise")
@takes("database", join=True)
def db_migrate(settings: Settings, *, as_json: Json = False) -> None:
    """Create or update tables, views and roles of the audit, and its partitions for the days ahead."""
    from streams.database.migrations import migrate  # noqa: PLC0415 - brings the database driver along

    with busy("Migrating the audit database", quiet=as_json):
        ran = migrate(settings.database)
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


@app.command(epilog="Example: slotwise explain t-17 --why-not opus")
@takes(
    *("database", "database_connect_timeout_s", "database_statement_timeout_s", "catalog", "policy", "journal"),
    *("broker", "topic_prefix", "group", "partitions", "step_bytes_max"),
    join=True,
)
def explain(
    settings: Settings,
    *,
    task_id: Annotated[str, typer.Argument(help="The task's id.", show_default=False)],
    pool: Annotated[str | None, typer.Option(help="Its pool, where several have a task of that id.")] = None,
    mode: Annotated[str, typer.Option(help="live, shadow, replay or all.")] = "live",
    why_not: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Say which gate kept this model from it, and what would change that."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show why a task was routed or waits: every decision, with the verdict on each model.

    --why-not is about the last decision. Ratings, prices and thresholds are those of the configured catalogue and
    policy; a note says so where the decision was made by others.
    """
    from streams.database.connection import Timeouts  # noqa: PLC0415
    from streams.views import explain as view  # noqa: PLC0415 - brings the database driver along

    modes, timeouts = None if mode == "all" else mode, Timeouts.of(settings)
    result: object = None
    shown: RenderableType = ""
    if why_not is not None:
        rulebook = file_rulebook(settings)
        found = view.explain_why_not(
            settings.database, task_id, why_not, rulebook, pool=pool, mode=modes, timeouts=timeouts
        )
        if found is not None:
            decision, answer = found
            result = {"decision_id": decision["decision_id"], **msgspec.to_builtins(answer)}
            shown = explain_text.render_why_not(decision, answer)
    else:
        result = history = view.explain(settings.database, task_id, pool=pool, mode=modes, timeouts=timeouts)
        shown = explain_text.render(history)
    if as_json:
        print_json(result)
    elif result:
        out.print(shown)
    else:
        err.print(line(f"The audit has no decision about {task_id}: {_why_none(settings, pool)}"))
    if not result:
        raise typer.Exit(FAILED)


def _why_none(settings: Settings, pool: str | None) -> str:
    """Say why the audit may have nothing about a task: it is behind the journal, or there is nothing."""
    import asyncio  # noqa: PLC0415

    from aiokafka.errors import KafkaError  # noqa: PLC0415 - brings the Kafka client along

    from streams.operate.parts import audit_view, journal_ends  # noqa: PLC0415
    from streams.operate.read_partitions import partitions_of  # noqa: PLC0415
    from streams.views.parts import sentence_behind  # noqa: PLC0415

    try:
        view = audit_view(settings, asyncio.run(journal_ends(settings, partitions_of(settings, pool))), wait_s=0.0)
    except (KafkaError, ValueError, TimeoutError):
        return "it was never sent, is not decided yet, or the audit is behind (the journal cannot be read)."
    if view.behind:
        return f"it may be on its way. {sentence_behind(view.behind)}: is `slotwise sink` running?"
    return "it was never sent, or is not decided yet."


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
    from streams.topics import check_topics  # noqa: PLC0415

    check_topics(settings)
    rulebook = file_rulebook(settings)
    with busy("Auditing: journal records read", quiet=as_json) as progress:
        report = asyncio.run(audit_installation(settings, rulebook, wait_s=wait_s, derive=rederive, progress=progress))
    if as_json:
        print_json(report)
    else:
        out.print(audit_text.render(report))
    if not report.sound:
        raise typer.Exit(FAILED)
