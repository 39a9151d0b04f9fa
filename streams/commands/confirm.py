"""A question before what cannot be undone, on the terminal of the person who gave the command."""

from __future__ import annotations

import sys

import typer

from streams.commands.console import err
from streams.errors import FAILED


def confirm(question: str, *, unasked: typer.BadParameter, refused: str = "Nothing was done.") -> None:
    """Go on only after a yes; any other answer ends the command, and so does an end of the input.

    Raises:
        typer.BadParameter: `unasked`, where there is no terminal to ask on.
        typer.Exit: the answer is no, which `refused` says.
    """
    if not sys.stdin.isatty():
        raise unasked
    try:
        if typer.confirm(question, err=True):
            return
    except typer.Abort:
        pass
    err.print(refused)
    raise typer.Exit(FAILED)
