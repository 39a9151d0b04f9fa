"""A terminal with a board on it: what is typed does not show, and the key `o` opens the pages in a browser."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from msgspec.structs import replace
from rich.console import Console

from streams.local.board import Board, showing
from streams.local.browser import can_open, open_page

OPEN: Final = "o"
#: More bytes that are typed between two frames are read at the next one.
_BYTES_MAX: Final = 1_000


@contextmanager
def board_on(screen: Console) -> Iterator[Callable[[Board], None]]:
    """Return what draws a board, which names the key where it opens the board's pages."""
    with keys(sys.stdin) as pressed, showing(screen) as show:

        def draw(board: Board) -> None:
            if pressed is not None:
                asked = OPEN in pressed()
                if can_open():
                    board = replace(board, key=OPEN)
                    if asked:
                        open_page(board.pages)
            show(board)

        yield draw


@contextmanager
def keys(terminal: TextIO) -> Iterator[Callable[[], str] | None]:
    """Give what returns the keys that were pressed since it was called last; None: it is no terminal of ours.

    Ctrl-C stays the signal that it is.
    """
    if not _is_ours(terminal):
        yield None
        return
    import termios  # noqa: PLC0415 - not on every system
    import tty  # noqa: PLC0415

    number = terminal.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield lambda: _typed(number)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _typed(number: int) -> str:
    there, _, _ = select.select([number], [], [], 0)
    return os.read(number, _BYTES_MAX).decode(errors="replace") if there else ""


def _is_ours(terminal: TextIO) -> bool:
    """Whether it is a terminal, and we are the job in front: one behind would be stopped when it changes its ways."""
    try:
        return terminal.isatty() and os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False
