"""What cannot be undone is done after a yes only."""

from __future__ import annotations

import sys
from typing import NoReturn

import pytest
import typer

from streams.commands.confirm import confirm
from streams.errors import FAILED

UNASKED = typer.BadParameter("add --yes.")


def test_without_a_terminal_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is a mistake, and says how to give it."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(typer.BadParameter, match="add --yes"):
        confirm("Do it?", unasked=UNASKED)


@pytest.mark.parametrize("answer", ["yes", "no", "interrupted"])
def test_only_a_yes_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str) -> None:
    """A no, the end of the input and an interruption end the command with a sentence and exit code 1."""

    def asked(_question: str, *, err: bool) -> bool:
        assert err, "what is printed for programs stays clean"
        return interrupted() if answer == "interrupted" else answer == "yes"

    def interrupted() -> NoReturn:
        raise typer.Abort

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", asked)
    if answer == "yes":
        confirm("Do it?", unasked=UNASKED)
        return
    with pytest.raises(typer.Exit) as ended:
        confirm("Do it?", unasked=UNASKED, refused="Nothing was activated.")
    assert ended.value.exit_code == FAILED
    assert capsys.readouterr().err == "Nothing was activated.\n"
