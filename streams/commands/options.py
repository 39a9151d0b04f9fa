"""Options that commands share: `--json`, and any setting as an option."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import msgspec
import typer

from streams.local import up_file
from streams.settings import KAFKA_GROUP, RENAMED, Settings, SettingsError, from_environment, load, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

EVERYTHING: Final = tuple(row.name for row in table())


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
            function(_joined(settings, stated) if join else settings, **arguments)

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


def _joined(settings: Settings, stated: set[str]) -> Settings:
    running = up_file.read(Path(settings.data_dir))
    if running is None:
        return settings
    host, _, port = running.web.removeprefix("http://").rpartition(":")
    addresses = {"broker": running.broker, "database": running.database, "web_host": host, "web_port": port}
    found = {**running.settings, **addresses, "data_dir": settings.data_dir}
    try:
        read = load({}, found)
    except SettingsError as error:
        raise SettingsError(
            f"{Path(settings.data_dir) / up_file.NAME} is of another slotwise ({error}): start `slotwise up` again."
        ) from None
    taken = {name for name in found if name not in stated}
    if "broker" in taken:
        # How a broker is reached belongs to its address: what is set for another one would not fit.
        taken |= {name for name in EVERYTHING if name.startswith(KAFKA_GROUP)}
    return msgspec.structs.replace(settings, **{name: getattr(read, name) for name in taken})
