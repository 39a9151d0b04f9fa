"""Runs `slotwise up`: until Ctrl-C, or until idle when asked so, with a board on a terminal and lines elsewhere."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console

from streams import up_file
from streams.clock import SystemClock
from streams.errors import FAILED
from streams.local.board import Board, line
from streams.local.browser import can_open, open_page
from streams.local.result import Result
from streams.local.signals import StopAsked, stop_on_signals
from streams.local.terminal import board_on
from streams.local.up import Options, Up, UpError
from streams.settings import Settings

LOOK_EVERY_S: Final = 0.25
#: Without a terminal, a line so often.
LINE_EVERY_S: Final = 5.0
#: Numbers that disagree and have not changed for so long will not agree later.
QUIET_S: Final = 20.0


class NotInTimeError(UpError):
    """The bounded run did not end within its time; the message says what was still open."""

    exit_code = FAILED


def run(settings: Settings, options: Options, *, screen: Console, errors: Console) -> Result | None:
    """Run until Ctrl-C, or until idle when asked so; draw the board on `screen`, report about the parts on `errors`.

    Returns:
        The result; None when the run was stopped before there was one.

    Raises:
        NotInTimeError: the bounded run was still busy at its end.
    """

    def report(text: str) -> None:
        errors.print(text, markup=False, highlight=False)

    up = Up(settings, options, report)
    with stop_on_signals(), contextlib.suppress(StopAsked), up:
        up.start()
        report(
            f"Ready. Web pages, HTTP API: {up.http}; addresses: {up.directory / up_file.NAME}; Ctrl-C ends everything."
        )
        if options.open_pages:
            if screen.is_terminal and can_open():
                open_page(up.http)
            else:
                report("No browser is opened, because there is no screen for one: open the address above.")
        with _display(up, settings, screen) as draw:
            _watch(up, draw)
    return up.result


def _watch(up: Up, draw: Callable[[], None]) -> None:
    began_s = still_s = time.monotonic()
    before: tuple[int, ...] = ()
    while True:
        up.tend()
        draw()
        if up.options.until_idle:
            now_s, numbers, open_ends = time.monotonic(), up.activity(), up.open_ends()
            if numbers != before:
                before, still_s = numbers, now_s
            if not open_ends or (numbers and now_s - still_s > QUIET_S):
                return
            if now_s - began_s > up.options.idle_s_max:
                raise NotInTimeError(f"Not idle after {up.options.idle_s_max:.0f} s: {' '.join(open_ends)}")
        time.sleep(LOOK_EVERY_S)


@contextlib.contextmanager
def _display(up: Up, settings: Settings, screen: Console) -> Iterator[Callable[[], None]]:
    """Return a function that shows the present state: a board in place on a terminal, else a line at intervals."""
    title = f"slotwise up ({'the bundled sample, ' if up.options.sample else ''}{up.options.broker} broker)"
    if not screen.is_terminal:
        yield _line_now_and_then(up, screen)
        return
    near = settings.data_dir == Settings().data_dir
    option = "" if near else f" --data-dir {shlex.quote(settings.data_dir)}"
    with board_on(screen) as show:

        def draw() -> None:
            watch = up.watch
            if watch is not None:
                rate_per_s, progress = watch.rate_per_s(), up.progress
                with watch.lock:
                    show(
                        Board(
                            stats=watch.stats,
                            counts=watch.counts,
                            progress=progress,
                            rate_per_s=rate_per_s,
                            new=watch.dead_letters.new(SystemClock().now_ms()),
                            title=title,
                            notes=up.notes,
                            option=option,
                            pages=up.http,
                        )
                    )

        yield draw


def _line_now_and_then(up: Up, screen: Console) -> Callable[[], None]:
    last_s = time.monotonic()

    def draw() -> None:
        nonlocal last_s
        watch = up.watch
        if watch is None or time.monotonic() - last_s < LINE_EVERY_S:
            return
        last_s = time.monotonic()
        rate_per_s, progress = watch.rate_per_s(), up.progress
        with watch.lock:
            new = watch.dead_letters.new(SystemClock().now_ms())
            text = line(watch.stats, watch.counts, progress, rate_per_s, new)
        screen.print(text, markup=False, highlight=False, soft_wrap=True)

    return draw
