"""`slotwise settings` and `slotwise version`: what this slotwise is and runs with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version as installed_version
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from streams.commands.console import out, print_json
from streams.commands.options import EVERYTHING, Json, sources, takes
from streams.secret import masked
from streams.settings import Settings, table

app = typer.Typer()


@app.command("settings", epilog="Example: slotwise settings --json")
@takes(*EVERYTHING, join=True)
def show_settings(
    settings: Settings,
    *,
    context: typer.Context,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/settings.md.")] = False,
    as_json: Json = False,
) -> None:
    """List every setting with its value for a command here, where that comes from, and what it is for.

    It comes from an option, the environment (SLOTWISE_<NAME>), the `slotwise up` that runs on the data directory, or is
    the default. `worker` and `up` take nothing from a running `slotwise up`.
    """
    origin = sources(settings, [name for name, value in context.params.items() if value is not None])
    if as_json:
        print_json(
            [
                {"name": row.name, "env": row.env, "value": _shown(getattr(settings, row.name)),
                 "from": origin[row.name], "default": row.default, "unit": row.unit, "help": row.help}
                for row in table()
            ]
        )  # fmt: skip
        return
    if markdown:
        typer.echo("\n".join(markdown_table()))
        return
    grid = Table("variable", "value", "from", "unit", "what it is for", box=None)
    for row in table():
        value = str(_shown(getattr(settings, row.name)))
        style = "" if getattr(settings, row.name) == row.default else "bold"
        grid.add_row(row.env, Text(value, style=style), origin[row.name], row.unit, row.help)
    out.print(grid)


@app.command(epilog="Example: slotwise version --json")
def version(*, as_json: Json = False) -> None:
    """Say which slotwise this is."""
    number = installed_version("slotwise")
    if as_json:
        print_json({"slotwise": number, "python": sys.version.split()[0]})
    else:
        out.print(f"slotwise {number}")


def markdown_table() -> Iterator[str]:
    """Return the lines of the settings table of docs/settings.md."""
    yield "| variable | default | unit | what it is for |"
    yield "|---|---|---|---|"
    for row in table():
        default = f"`{row.default}`" if row.default != "" else "(empty)"
        yield f"| `{row.env}` | {default} | {row.unit} | {row.help} |"


def _shown(value: Any) -> Any:
    """Return a value without a password that was written into the wrong setting."""
    return masked(value) if isinstance(value, str) else value
