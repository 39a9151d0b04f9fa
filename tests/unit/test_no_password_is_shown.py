"""A canary: a password in the settings is in the output of no command, whatever it does and however it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streams import up_file
from tests.support.every_command import CODES, Parameter, commands, run, unplugged

CANARY = "Canary2Sings"
FORMS = {
    "a URL": f"postgresql://ann:{CANARY}@127.0.0.1:9/audit",
    "percent-encoded": f"postgresql://ann:%43{CANARY[1:]}%2F{CANARY}@127.0.0.1:9/audit",
    "a parameter": f"postgresql://127.0.0.1:9/audit?password={CANARY}",
    "key and value": f"host=127.0.0.1 port=9 password={CANARY}",
    "not a DSN": f"postgresql://ann:{CANARY}/{CANARY}@127.0.0.1:9/audit",
}


def least(parameters: tuple[Parameter, ...]) -> list[str]:
    """Give what a command must be given."""
    words = []
    for one in parameters:
        if one.required:
            words += [one.option] if one.option is not None else []
            words += [one.choices[0] if one.choices else "1"]
    return words


@pytest.mark.parametrize("words", commands(), ids=" ".join)
@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_no_command_shows_the_password_of_the_database(tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    """Given by the environment, as the option, in a wrong place, and as PGPASSWORD; as text and as JSON."""
    options = {one.option for one in commands()[words]}
    tries = [
        [],
        ["--help"],
        [text],
        ["--databse", text],
        [f"--databse={text}"],
        ["--catalog", text],
        ["--broker", text],
    ]
    tries += [["--database", text]] if "--database" in options else []
    shown = []
    with unplugged(tmp_path):
        for more in tries:
            for form in ([], ["--json"]):
                env = {"SLOTWISE_DATABASE": text, "PGPASSWORD": CANARY, "SLOTWISE_BROKER": "127.0.0.1:9"}
                ended = run(*words, *least(commands()[words]), *more, *form, env=env)
                assert ended.code in CODES, ended
                shown += [ended.stdout, ended.stderr]
    assert [output for output in shown if CANARY.lower() in output.lower() or CANARY[1:] in output] == []


def test_up_json_of_an_older_version_is_read_and_not_shown(tmp_path: Path) -> None:
    """It held the password."""
    directory = tmp_path / ".slotwise"
    directory.mkdir()
    content = up_file.UpFile(
        broker="127.0.0.1:9", database=FORMS["a URL"], web="http://127.0.0.1:9", pids={"up": os.getpid()}
    )
    up_file.write(directory, content)
    with unplugged(tmp_path):
        for words in (("db", "migrate"), ("explain", "t-1"), ("audit",), ("sink",)):
            ended = run(*words)
            assert "Postgres at 127.0.0.1:9, database audit, cannot be reached" in ended.stderr
            assert CANARY not in ended.stdout + ended.stderr
