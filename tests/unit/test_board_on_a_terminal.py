"""The board on a real terminal: it fits it, follows its size, opens the pages by a key, and leaves it as it was."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.local.board import LEGEND
from streams.local.browser import can_open
from tests.support.boards import PAGES, task_id
from tests.support.terminal import WAIT_S, Screen, Terminal

SIZES = ((80, 24), (60, 20))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    """Give where a browser, which is a script here, writes the address that it opens."""
    pipe, script = tmp_path / "opened", tmp_path / "browser"
    os.mkfifo(pipe)
    script.write_text(f'#!/bin/sh\necho "$1" > {pipe}\n')
    script.chmod(0o700)
    number = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    yield number
    os.close(number)


def board(which: str, width: int, height: int, tmp_path: Path) -> Terminal:
    """A board on a terminal of this size, with the script as the browser."""
    environment = {**os.environ, "BROWSER": f"{tmp_path / 'browser'} %s"}
    return Terminal(
        sys.executable, "-m", "tests.support.boards", which, width=width, height=height, environment=environment
    )


def frame(screen: Screen) -> list[str]:
    """The lines that are not blank."""
    return [line for line in screen.lines if line]


def is_whole(screen: Screen) -> bool:
    """Whether there is one border, as wide as the terminal, with all lines inside."""
    lines = frame(screen)
    return (
        screen.is_other
        and bool(lines)
        and (lines[0][0], lines[0][-1], lines[-1][0], lines[-1][-1]) == ("╭", "╮", "╰", "╯")
        and {len(line) for line in lines} == {screen.width}
    )


def check(screen: Screen) -> None:
    """The newest id stands whole on one line; legend, next command and the way to the pages are there."""
    assert any(task_id(11) in line for line in screen.lines), "\n".join(screen.lines)
    assert LEGEND in screen.text
    assert "slotwise explain TASK" in screen.text
    assert f"o: open {PAGES} in a browser" in frame(screen)[-1]
    assert screen.lines[: len(frame(screen))] == frame(screen), "no rest of an older frame"


@pytest.mark.usefixtures("opened")
def test_the_board_fits_the_terminal_at_each_size_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    """What is typed does not show; at the end the last board stays, and the terminal echoes again."""
    with board("busy", *SIZES[0], tmp_path) as terminal:
        check(terminal.until(is_whole))
        assert not terminal.echoes()
        terminal.press("zzz")
        terminal.resize(*SIZES[1])
        check(terminal.until(is_whole))
        assert "zzz" not in terminal.screen.text
        terminal.resize(*SIZES[0])
        check(terminal.until(is_whole))
        terminal.press("\x03")
        assert terminal.ended() == 0
        assert not terminal.screen.is_other
        assert task_id(11) in terminal.screen.text
        assert terminal.echoes()


def test_the_key_opens_the_pages(tmp_path: Path, opened: int) -> None:
    """In the browser that the environment names; on an empty board too, which says what to type."""
    with board("empty", *SIZES[1], tmp_path) as terminal:
        assert "No slot yet. In another terminal: echo" in terminal.until(is_whole).text
        terminal.press("o")
        ready, _, _ = select.select([opened], [], [], WAIT_S)
        assert ready
        assert os.read(opened, 1000).decode().strip() == PAGES


def test_no_browser_is_offered_where_there_is_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the terminal would take the terminal away from the board."""
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("webbrowser.get", lambda: None)
    monkeypatch.setattr("sys.platform", "linux")
    assert not can_open()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert can_open()
