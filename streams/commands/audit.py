"""The audit in Postgres: `slotwise db migrate` makes it, `slotwise explain` asks it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from streams.commands.codes import FAILED
from streams.commands.console import busy, err, out, print_json
from streams.commands.options import Json, takes
from streams.settings import Settings

app = typer.Typer()
db_app = typer.Typer(help="Bring the audit database to the schema of this version.")
app.add_typer(db_app, name="db")


@db_app.command("migrate", epilog="Example: slotwise db migrate --database postgresql://owner@db/slotwise")
@takes("database", join=True)
def db_migrate(settings: Settings, *, as_json: Json = False) -> None:
    """Create or update tables, views and roles of the audit, and its partitions for the days ahead."""
    from streams.sinks.migrations import migrate  # noqa: PLC0415 - brings the database driver along

    with busy("Migrating the audit database", quiet=as_json):
        ran = migrate(settings.database)
    if as_json:
        print_json({"migrated": ran})
    else:
        out.print("\n".join(ran) if ran else "The audit database is up to date.")


@app.command(epilog="Example: slotwise explain t-17")
@takes("database", "database_connect_timeout_s", "database_statement_timeout_s", join=True)
def explain(
    settings: Settings,
    *,
    task_id: Annotated[str, typer.Argument(help="The task's id.", show_default=False)],
    pool: Annotated[str | None, typer.Option(help="Its pool, where several have a task of that id.")] = None,
    mode: Annotated[str, typer.Option(help="live, shadow, replay or all.")] = "live",
    as_json: Json = False,
) -> None:
    """Tell why a task went where it went, or why it waits: every decision, and what each model's verdict was."""
    from streams.sinks.database import Timeouts  # noqa: PLC0415 - brings the database driver along
    from streams.sinks.explain import explain as ask  # noqa: PLC0415
    from streams.sinks.explain import render  # noqa: PLC0415

    told = ask(
        settings.database, task_id, pool=pool, mode=None if mode == "all" else mode, timeouts=Timeouts.of(settings)
    )
    if as_json:
        print_json(told)
    elif told:
        out.print(render(told))
    else:
        err.print(Text(f"No decision about {task_id} stands in the audit: it was never sent, or not decided yet."))
    if not told:
        raise typer.Exit(FAILED)
