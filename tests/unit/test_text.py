"""Text of producers is shown, never obeyed: neither a terminal nor a log line does what a title says."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from streams import logs
from streams.commands.console import line
from streams.settings import Settings
from streams.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Each would end a line, act on a terminal, turn the reading direction or break the encoding.
ACTING = {
    "line ends": ("Fix\r\nFATAL nothing", "Fix\\u000d\\u000aFATAL nothing"),
    "ANSI escape": ("\x1b[2J\x1b[31mred", "\\u001b[2J\\u001b[31mred"),
    "8-bit escape": ("\x9b2J", "\\u009b2J"),
    "right-to-left override": ("gnp.\u202eexe", "gnp.\\u202eexe"),
    "isolates and marks": ("\u2066\u2069\u200f\u061c", "\\u2066\\u2069\\u200f\\u061c"),
    "line separators": ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\u0085d"),
    "NUL, bell, delete": ("\x00\x07\x7f", "\\u0000\\u0007\\u007f"),
    "half a UTF-16 pair": ("\ud83d!", "\\ud83d!"),
}


@pytest.mark.parametrize(("text", "want"), ACTING.values(), ids=ACTING.keys())
def test_what_acts_is_escaped(text: str, want: str) -> None:
    """And what is escaped can be written in every encoding that knows the rest."""
    assert printable(text) == want
    printable(text).encode()


@pytest.mark.parametrize("text", ["Fix typo in README", "Zoës größter Plan 計画 ✓ 🚀", "[bold]C:\\temp[/bold]"])
def test_what_does_not_act_stays(text: str) -> None:
    """Letters of all scripts, signs and backslashes are shown as they are."""
    assert printable(text) == text


@pytest.mark.parametrize("text", [text for text, _ in ACTING.values()], ids=ACTING.keys())
def test_a_command_prints_one_line_that_does_nothing(text: str) -> None:
    """Markup of the library is text as well."""
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system="truecolor")
    console.print(line(f"[red]{text}[/red]"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown == f"[red]{printable(text)}[/red]\n"


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """Give the root logger, and restore it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("log_json", [False, True], ids=["for people", "as JSON"])
def test_a_log_line_stays_one_line(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str], *, log_json: bool
) -> None:
    """A title in a message cannot forge a second line."""
    logs.configure(Settings(log_json=log_json), silent=())
    for handler in root_logger.handlers:
        assert isinstance(handler, logging.StreamHandler)
    root_logger.warning("refused %s", "Fix\r\n2026 [critical] all is lost \x1b[2J \u202e")
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert not {"\r", "\x1b", "\u202e"} & set(written)
    if log_json:
        assert "\\u000d\\u000a" in json.loads(written)["event"]
