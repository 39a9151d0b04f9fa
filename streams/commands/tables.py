"""`slotwise tables`: the tables of a running worker."""

from __future__ import annotations

import urllib.request
from enum import StrEnum
from http.client import HTTPException
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from streams.commands.console import out, print_json
from streams.commands.options import Json, takes
from streams.errors import UNREACHABLE, SlotwiseError
from streams.settings import Settings

app = typer.Typer(help="Show the worker's tables.")


class PageError(SlotwiseError):
    """A page of the worker does not answer; the message says which."""

    exit_code = UNREACHABLE


class TableName(StrEnum):
    """The worker's tables."""

    utilisation = "utilisation"
    ev_percentiles = "ev_percentiles"


@app.command("show", epilog="Example: slotwise tables show ev_percentiles")
@takes("web_host", "web_port", join=True)
def tables_show(
    settings: Settings,
    *,
    name: Annotated[TableName, typer.Argument(help="Which table.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show a table of a running worker: the rows of the partitions that this worker has."""
    rows = _page(settings, f"/tables/{name.value}")
    if as_json:
        print_json(rows)
        return
    listed = rows if isinstance(rows, list) else rows.get("rows", [rows])
    if not listed:
        out.print("The table is empty.")
        return
    grid = Table(*listed[0], box=None)
    for row in listed:
        grid.add_row(*(_cell(value) for value in row.values()))
    out.print(grid)


def _page(settings: Settings, path: str) -> Any:
    address = f"http://{settings.web_host}:{settings.web_port}{path}"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return msgspec.json.decode(answer.read())
    except (OSError, HTTPException, ValueError, msgspec.DecodeError) as error:  # also a host that there cannot be
        raise PageError(
            f"No worker answers at {address} ({error}): start one, or say where it is with --web-host and --web-port."
        ) from None


def _cell(value: Any) -> Text:
    return Text(f"{value:.3f}" if isinstance(value, float) else str(value))
