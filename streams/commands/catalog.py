"""`slotwise catalog`: the configured models, and an update of their prices from LiteLLM's price file."""

from __future__ import annotations

import datetime as dt
import stat
from codecs import BOM_UTF8
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct
from rich.table import Table
from rich.text import Text

from streams.commands.console import err, line, out, print_json
from streams.commands.options import Json, takes
from streams.core.policy.catalog import Catalog, Model
from streams.core.policy.document import read
from streams.errors import FAILED, MISTAKE, SlotwiseError
from streams.settings import Settings
from streams.shipped import catalog_text, file_rulebook
from streams.text import printable
from streams.text_file import read_bytes_file
from streams.whole_file import write_whole

if TYPE_CHECKING:
    from streams.operate.catalog_row import Value
    from streams.operate.prices import Refreshed

app = typer.Typer(help="Show the model catalogue, and bring its prices up to date.")


class NoCatalogError(SlotwiseError):
    """There is no catalogue that may be written; the message says how to get one."""

    exit_code = MISTAKE


class Refresh(Struct, frozen=True, kw_only=True):
    """The result of comparing a price file with the catalogue."""

    catalog: str
    prices: str
    priced_at: dt.date
    written: bool
    models: tuple[Refreshed, ...]


@app.command("show", epilog="Example: slotwise catalog show --text > catalog.toml")
@takes("catalog")
def show(
    settings: Settings,
    *,
    text: Annotated[bool, typer.Option("--text", help="Print the file as it is, to copy and change it.")] = False,
    as_json: Json = False,
) -> None:
    """Show the configured models: tier, prices, windows, and how old the prices are."""
    content = catalog_text(settings)
    if text:
        typer.echo(content, nl=False)
        return
    catalog = read(content, Catalog, settings.catalog or "catalog.toml")
    if as_json:
        print_json(catalog.model)
        return
    grid = Table("model", "tier", "product", "$/M in", "$/M out", "cached", "window", "output", "priced", box=None)
    for model in catalog.model:
        prices = (model.input_usd_per_mtok, model.output_usd_per_mtok, model.cache_read_usd_per_mtok)
        grid.add_row(
            *(model.id, str(model.tier), model.product, *map(_price, prices)),
            *(f"{model.context_window:,}", f"{model.output_tokens_max:,}", _priced(model)),
        )
    out.print(grid)


@app.command("refresh", epilog="Example: slotwise catalog refresh model_prices_and_context_window.json --write")
@takes("catalog", "policy")
def refresh(
    settings: Settings,
    *,
    file: Annotated[Path, typer.Argument(help="LiteLLM's price file, as JSON.", show_default=False)],
    write: Annotated[bool, typer.Option("--write", help="Write the changes into the catalogue.")] = False,
    as_of: Annotated[
        str | None, typer.Option(metavar="DATE", help="Date of the prices, as 2026-11-21. Default: today.")
    ] = None,
    source: Annotated[str, typer.Option(help="Value of `price_source`.")] = "LiteLLM's price file",
    as_json: Json = False,
) -> None:
    """Compare the catalogue with LiteLLM's price file; a row is found there by its `priced_as`.

    What cannot be believed (a price of 0 beside a real one, more than $500 per million tokens) is left alone, with the
    reason.

    --write writes the changed values, `priced_at` and `price_source` of the rows that have a price in the file.
    Comments and order stay. It changes the file only; `slotwise policy activate` puts it in force.
    """
    from streams.operate.catalog_text import rewrite  # noqa: PLC0415 - brings tomlkit along
    from streams.operate.price_file import read_prices  # noqa: PLC0415
    from streams.operate.prices import compare  # noqa: PLC0415

    where = settings.catalog or "the shipped catalogue"
    if write and not settings.catalog:
        raise NoCatalogError(
            "The shipped catalogue belongs to the installation: make one of your own with "
            "`slotwise catalog show --text > catalog.toml`, and name it with --catalog."
        )
    try:
        priced_at = dt.date.fromisoformat(as_of) if as_of is not None else dt.datetime.now(dt.UTC).date()
    except ValueError:
        raise typer.BadParameter(f"{as_of!r} is no date: write it as 2026-11-21.", param_hint="--as-of") from None
    if printable(source) != source:
        raise typer.BadParameter(f"{source!r} is no text of one line.", param_hint="--source")
    content = catalog_text(settings)
    models = compare(read(content, Catalog, where), read_prices(read_bytes_file(file), str(file)), priced_at)
    if write:
        changed = rewrite(content, models, priced_at, source)
        # A worker must be able to start with the result.
        file_rulebook(settings, catalog=changed)
        _replace(Path(settings.catalog), changed)
    if as_json:
        print_json(Refresh(catalog=where, prices=str(file), priced_at=priced_at, written=write, models=models))
    else:
        _report(models, where, priced_at, written=write)
    if not any(one.found for one in models):
        raise typer.Exit(FAILED)


def _report(models: tuple[Refreshed, ...], where: str, priced_at: dt.date, *, written: bool) -> None:
    changes = sum(len(one.changes) for one in models)
    if changes:
        grid = Table("model", "key", "catalogue", "file", box=None)
        for one in models:
            for change in one.changes:
                grid.add_row(one.model, change.key, _value(change.old), _value(change.new))
        out.print(grid)
    for one in models:
        for note in one.notes:
            err.print(line(f"{one.model}: {note}"))
    priced = sum(one.found for one in models)
    done = f"written to {where}, priced at {priced_at}" if written else "nothing written; --write does"
    out.print(line(f"{changes} values differ in {priced} priced models; {done}."))


def _value(value: Value | None) -> Text:
    """Show a value of a row; a list of steps or hours entry by entry."""
    if value is None:
        return line("none")
    if not isinstance(value, list):
        return line(f"{value:,}")
    return line("; ".join(", ".join(f"{key} {_plain(inner)}" for key, inner in entry.items()) for entry in value))


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _replace(path: Path, text: str) -> None:
    """Replace a file; a link, a byte order mark and its permissions stay."""
    path = path.resolve()
    with path.open("rb") as old:
        mark = BOM_UTF8 if old.read(len(BOM_UTF8)) == BOM_UTF8 else b""
    write_whole(path, mark + text.encode(), mode=stat.S_IMODE(path.stat().st_mode))


def _price(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:g}"


def _priced(model: Model) -> str:
    return str(model.priced_at) if model.priced_at is not None else "no date"
