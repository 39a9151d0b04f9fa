"""Options that commands share: `--json`, and any setting as an option."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer

from streams import up_file
from streams.errors import UNREACHABLE, SlotwiseError
from streams.settings import RENAMED, Settings, from_environment, load, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

EVERYTHING: Final = tuple(row.name for row in table())


#: Endings of pictures, under which neither a directory nor a page is looked for.
_PICTURES: Final = (".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp", ".pdf")


def picture_directory(path: Path | None) -> Path | None:
    """Return a directory to draw in, which is made if it is not there; for the callback of an option.

    Raises:
        BadParameter: it is the name of a picture, or cannot be made.
    """
    if path is None:
        return None
    if path.suffix.lower() in _PICTURES and not path.is_dir():
        raise typer.BadParameter(
            f"{path} is the name of a picture: name a directory, in which pareto.svg and waits.svg are drawn, as "
            "slotwise draws SVG and no PNG (a browser or rsvg-convert makes one of it)."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be made: {error.strerror}.") from None
    return path


def page_file(path: Path | None) -> Path | None:
    """Return a file for a page; for the callback of an option.

    Raises:
        BadParameter: it is the name of a picture.
    """
    if path is not None and path.suffix.lower() in _PICTURES:
        raise typer.BadParameter(
            f"{path} is the name of a picture, and the report is a page with its pictures as SVG: name it "
            f"{path.with_suffix('.html')}."
        )
    return path


class NothingRuns(SlotwiseError):
    """Something does not answer, and it may be that of a `slotwise up` that has ended; the message says both."""

    exit_code = UNREACHABLE


def takes(*names: str, join: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options for some settings, and call it with the loaded `Settings` as its first argument.

    With `join`, settings that are not given are those of the `slotwise up` that runs on the data directory.
    """
    wanted = {*names, *(("data_dir",) if join else ())}
    rows = [row for row in table() if row.name in wanted]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**arguments: Any) -> None:
            given = {row.name: arguments.pop(row.name) for row in rows}
            settings = load(os.environ, given)
            stated = {*from_environment(os.environ), *(name for name, value in given.items() if value is not None)}
            if not join:
                function(settings, **arguments)
                return
            runs = up_file.read(Path(settings.data_dir)) is not None
            try:
                function(up_file.joined(settings, stated), **arguments)
            except SlotwiseError as error:
                if runs or error.exit_code != UNREACHABLE or stated.intersection(("broker", "database")):
                    raise
                raise NothingRuns(
                    f"{error} No `slotwise up` runs on {settings.data_dir} either: start it there, and this command "
                    "finds its broker and its audit, which stays from run to run."
                ) from error

        hints = get_type_hints(function, include_extras=True)
        own = list(inspect.signature(function).parameters.values())[1:]
        options = [
            inspect.Parameter(
                row.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    bool | None if row.default in (True, False) and isinstance(row.default, bool) else str | None,
                    typer.Option(
                        *_flags(row.name),
                        help=f"{row.help}. Default: {row.default!r}." if row.default != "" else f"{row.help}.",
                        metavar=row.unit or None,
                        rich_help_panel="Settings (each also as SLOTWISE_<NAME>)",
                    ),
                ],
            )
            for row in rows
        ]
        parameters = [one.replace(annotation=hints[one.name], kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        command.__signature__ = inspect.Signature([*parameters, *options])  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in (*parameters, *options)}
        del command.__wrapped__  # else its signature would count, not ours
        return command

    return decorate


def _flags(name: str) -> tuple[str, ...]:
    """Return the option's name and its old ones, where it has any; else typer makes the name."""
    names = [name, *(old for old, new in RENAMED.items() if new == name)]
    return tuple(f"--{one.replace('_', '-')}" for one in names) if len(names) > 1 else ()


def sources(settings: Settings, given: Collection[str]) -> dict[str, str]:
    """Say of each setting of a command that joins where its value comes from; `given` are its options by field name."""
    running = up_file.read(Path(settings.data_dir))
    stated = from_environment(os.environ)
    found = dict.fromkeys(EVERYTHING, "default")
    if running is not None:
        found |= dict.fromkeys(up_file.taken(running, {*stated, *given}), "slotwise up")
    return {**found, **dict.fromkeys(stated, "environment"), **dict.fromkeys(given, "option")}
