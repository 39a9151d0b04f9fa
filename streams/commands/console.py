"""Output of commands: the two consoles, JSON for programs, and a progress line during long work."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from streams.secret import Secret
from streams.text import printable

#: Tables for a file or a pipe are as wide as this; on a terminal, as wide as that.
WIDE: Final = 200

#: What acts on a terminal beside what JSON escapes anyway: C1 controls, marks that turn the reading direction.
_ACTING: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

#: Halves of UTF-16 pairs: Python reads bytes of a file's name that are not UTF-8 as such.
_HALVES: Final = re.compile("[\ud800-\udfff]")

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value for programs; secrets in it are masked."""
    try:
        text = msgspec.json.encode(value, enc_hook=_shown)
    except UnicodeEncodeError:  # the name of a file that is not UTF-8, which no JSON can hold: its bytes are escaped
        whole = json.dumps(msgspec.to_builtins(value, enc_hook=_shown), ensure_ascii=False)
        text = _HALVES.sub(lambda half: rf"\\u{ord(half[0]):04x}", whole).encode()
    shown = msgspec.json.format(text, indent=2).decode()
    # Only texts hold these characters, and there an escape is the same.
    typer.echo(_ACTING.sub(lambda one: f"\\u{ord(one[0]):04x}", shown))


def _shown(value: Any) -> str:
    if isinstance(value, Secret):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} is no value for programs")


def line(text: str) -> Text:
    """Return text without markup and with terminal controls escaped; names may contain any character."""
    return Text(printable(text))


def busy(what: str, *, quiet: bool, total: int | None = None) -> Any:
    """Show progress of long work on a terminal, as a bar where the end is known.

    Return a function to call with the count so far.
    """
    return _Busy(what, quiet=quiet, total=total)


class _Busy:
    def __init__(self, what: str, *, quiet: bool, total: int | None) -> None:
        bar = (SpinnerColumn(),) if total is None else (BarColumn(), TimeRemainingColumn())
        of = "" if total is None else f" of {total}"
        self._progress = Progress(
            *bar, TextColumn("{task.description} {task.completed:.0f}" + of), console=err, transient=True,
            disable=quiet or not err.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task(what, total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._progress.start()
        return lambda done: self._progress.update(self._task, completed=done)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
