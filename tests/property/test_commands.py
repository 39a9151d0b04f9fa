"""No command ends in a traceback, whatever its arguments and files hold: a sentence, and an exit code of the list.

The commands are found by walking the command line, so that a new one is tried as well. They run in this process,
without servers (tests/support/every_command.py), as far as they come. In CI it is some three thousand tries.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from tests.support.every_command import CODES, Parameter, commands, run, unplugged
from tests.support.odd_files import Kind, contents, names

#: Tries of each command.
TRIES: Final = 50 if os.environ.get("CI") == "true" else 20

#: What a parameter's file should hold.
FILES: Final[dict[str, tuple[Kind, ...]]] = {
    "catalog": ("catalog",),
    "policy": ("policy",),
    "other": ("policy", "catalog"),
    "files": ("policy", "catalog"),
    "file": ("lines", "prices"),
    "trace": ("lines", "prices"),
    "to": ("lines",),
    "status": ("lines",),
}
#: Text as the arguments of a process can hold it: no NUL, and bytes that are not UTF-8 as halves of UTF-16 pairs.
_TEXT: Final = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff\n\x1b%=:/-"),
    max_size=12,
)
_WORDS: Final = st.sampled_from(
    [
        *("opus", "claude", "codex", "haiku-1", "main", "t-1", "", "-", "--", "all", "live", "a b", "é", "0", "-1"),
        *("nan", "inf", "1e999", "9" * 5000, "9" * 20, "1_000", "0x10", "true", "null", "{}", "[1]", "[" * 3000),
        *("9999-12-31T23:59:59-05:00", "2099-01-01T00:00:00Z", "2099-01-01", "0001-01-01T00:00:00+05:00", "now"),
        *("coding=8", "coding=99", "title=x", "requires={}", "labels=[", 'ref="', "ev=1e400", "local_only=true", "="),
        *("127.0.0.1:9", "::1", "[::1]:9", "host:99999", "host:port", ",", "é:1", "a" * 300, "port=x", "//h/x"),
        *("task.pending/0/0", "task.pending/0/1", "task.pending/0/2", "task.pending/0/3", "slot.freed/0/0", "3h"),
        *("preference", "objective", "quality", "expert", "strategy", "tests", "legal", "standard"),
    ]
)
_NUMBERS: Final = st.one_of(
    st.integers(-2, 40), st.sampled_from([0.5, 100, 10**6, 2**31, 2**63, 10**25, 1e300, "nan", "-inf", "1e-9", "x", ""])
).map(str)


class Try(Struct, frozen=True):
    """One way to run a command."""

    words: tuple[str, ...]
    stdin: bytes
    #: What the files hold that the words name, by name.
    files: dict[str, bytes]


@st.composite
def tries(draw: st.DrawFn, parameters: tuple[Parameter, ...]) -> Try:
    """Give values to what is required, and to a few of the rest; now and then leave out or add one."""
    words: list[str] = []
    files: dict[str, bytes] = {}
    for one in parameters:
        if not (draw(st.integers(0, 9)) > 0 if one.required else draw(st.integers(0, 5)) == 0):
            continue
        if one.option is not None and one.is_flag:
            words.append(one.option)
            continue
        value = draw(_value(one, files))
        words += [value] if one.option is None else [f"{one.option}={value}"]
    if draw(st.integers(0, 9)) == 0:
        words.append(draw(_TEXT))
    if draw(st.integers(0, 9)) == 0:
        files[".slotwise/up.json"] = draw(contents("up"))
    return Try(tuple(words), draw(st.one_of(st.just(b""), contents("lines"))), files)


@st.composite
def _value(draw: st.DrawFn, one: Parameter, files: dict[str, bytes]) -> str:
    if one.choices and draw(st.integers(0, 9)) > 0:
        return draw(st.sampled_from(one.choices))
    if one.name in FILES:
        found = draw(st.sampled_from(FILES[one.name]).flatmap(names))
        if isinstance(found, str):
            return found
        name = f"{one.name}.file"
        files[name] = found
        return name
    if one.name == "data_dir":
        return draw(st.sampled_from([".slotwise", ".", "made/here", "/dev/null", "policy.file", "é\udcff", "x" * 300]))
    if one.kind in (int, float) or draw(st.integers(0, 3)) == 0:
        return draw(_NUMBERS)
    return draw(st.one_of(_WORDS, _TEXT))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory for all tries."""
    return tmp_path_factory.mktemp("commands")


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_no_command_ends_in_a_traceback(command: tuple[str, ...], directory: Path) -> None:
    """Its exit code is one of the list, and a failure has a sentence that can be printed."""

    @settings(max_examples=TRIES, phases=[Phase.generate])
    @given(tries(commands()[command]))
    def attempt(one: Try) -> None:
        with unplugged(directory):
            for name, content in one.files.items():
                Path(name).parent.mkdir(exist_ok=True)
                Path(name).write_bytes(content)
            ended = run(*command, *one.words, stdin=one.stdin)
            Path(".slotwise/up.json").unlink(missing_ok=True)
        assert ended.code in CODES, ended
        assert "Traceback" not in ended.stderr + ended.stdout, ended.stderr
        assert ended.code == 0 or ended.stderr + ended.stdout, "it failed without a word"
        assert "router_error" not in ended.stdout, "a rulebook that passed the check fails on a task"

    attempt()


def test_every_command_is_tried() -> None:
    """The walk finds them, the nested ones too."""
    found: Any = {" ".join(words) for words in commands()}
    assert {
        "up",
        "worker",
        "sink",
        "send",
        "check",
        "recommend",
        "policy check",
        "db migrate",
        "quota set",
        "dlq replay",
        "web",
        "token",
    } <= found
