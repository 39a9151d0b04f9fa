"""Identifiers and prose use the words of docs/glossary.md; a retired word names the file and the line where it is."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

#: Words that no module, class, function, parameter, variable or attribute may have in its name. `lane` is allowed where
#: it is the producer's stream of work, `moment` where it is a time.
RETIRED = frozenset(
    {"lineup", "purse", "purses", "scoreboard", "told", "untold", "tell", "tells", "usual", "standing", "standings"}
    | {"fold", "folded", "folds", "outside", "loose", "vitals", "tally", "desk", "bury", "buried", "trade", "trades"}
    | {"story", "stories", "moved", "glance", "sight", "sights", "kept", "asker", "adviser"}
    | {"happenings", "naive", "fate", "fates", "held", "letter", "letters"}
)
#: A partition's worker was a lane; in these folders a lane can be nothing else.
NO_LANES = ("streams/partition/", "streams/kafka/", "streams/local/", "streams/replay/")
LANES = frozenset({"lane", "lanes"})
#: `letter` is the second half of `dead letter`.
AFTER = {"letter": "dead", "letters": "dead"}
#: Money alone is settled, in these files.
SETTLES = frozenset({"settle", "settled", "settles"})
MONEY = ("streams/core/step/money.py", "streams/audit/ledgers.py")
#: Names of deprecated JSON keys; they go with the key.
DEPRECATED = {
    "streams/local/result.py": {"held", "told"},
    "streams/views/overview.py": {"held"},
}

#: Words and turns that plain technical English does without.
PROSE = re.compile(r"\b(nobody|somebody|whoever|anew|for ever|told|untold)\b", re.IGNORECASE)
#: Records of decisions are not rewritten, and the glossary lists the retired words.
NOT_READ = ("docs/adr/", "docs/glossary.md")


def python_files(*places: str) -> list[Path]:
    """List the Python files below some folders."""
    return sorted(file for place in places for file in (ROOT / place).rglob("*.py"))


def relative(file: Path) -> str:
    """Return a file's path in the repository."""
    return file.relative_to(ROOT).as_posix()


def names(file: Path) -> Iterator[tuple[int, str]]:
    """Return every name that the file defines, with its line; its own name first."""
    yield 1, file.stem
    for node in ast.walk(parsed(file)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case _:
                pass


def retired(name: str, words: frozenset[str] = RETIRED) -> Iterator[str]:
    """Return the retired words of an identifier, split at underscores and capitals."""
    parts = [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    for before, part in zip([None, *parts], parts, strict=False):
        if part in words and AFTER.get(part, "") != before:
            yield part


def prose(file: Path) -> Iterator[tuple[int, str]]:
    """Return comments, docstrings and texts of more than one word, with their lines; of other files every line."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        # Code in a document names what it was called at its time.
        yield from enumerate((re.sub(r"`[^`]*`", "", line) for line in text.splitlines()), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for number, line in enumerate(node.value.splitlines()):
                yield node.lineno + number, line


@cache
def parsed(file: Path) -> ast.Module:
    """Parse a file once."""
    return ast.parse(file.read_text(encoding="utf-8"))


def files_of_prose() -> list[Path]:
    """List what people read: code, documents, deployment files and golden histories."""
    found = [
        *python_files("streams", "schemas", "tests"),
        *ROOT.glob("*.md"),
        ROOT / "Makefile",
        ROOT / "pyproject.toml",
    ]
    for place, pattern in (("docs", "*.*"), ("deploy", "*.*"), ("tests/golden", "*.yaml"), ("tests/golden", "*.md")):
        found += [file for file in sorted((ROOT / place).rglob(pattern)) if file.is_file() and file.suffix != ".png"]
    found.append(ROOT / "streams/database/sql/queries.sql")
    return [file for file in found if not relative(file).startswith(NOT_READ) and file != Path(__file__)]


@pytest.mark.parametrize("file", python_files("streams", "schemas", "tests/support"), ids=relative)
def test_no_identifier_has_a_retired_word(file: Path) -> None:
    """Names are those of the glossary; names on the wire are strings, and exempt."""
    allowed = DEPRECATED.get(relative(file), set())
    words = RETIRED
    if relative(file).startswith(NO_LANES):
        words |= LANES
    if relative(file) not in MONEY:
        words |= SETTLES
    found = [
        f"{relative(file)}:{line}: {name} ({word})"
        for line, name in names(file)
        for word in retired(name, words)
        if word not in allowed
    ]
    assert not found, "\n".join(["retired words, see docs/glossary.md:", *found])


def test_no_prose_has_a_retired_word() -> None:
    """Docstrings, comments, messages, help texts and documents."""
    found = [
        f"{relative(file)}:{line}: {match[0]}"
        for file in files_of_prose()
        for line, text in prose(file)
        for match in PROSE.finditer(text)
    ]
    assert not found, "\n".join(["words that plain technical English does without:", *found])


@pytest.mark.parametrize(
    ("name", "want"),
    {
        "dead_letter": [],
        "DeadLetters": [],
        "letter": ["letter"],
        "tell_all": ["tell"],
        "TallyBoard": ["tally"],
        "LanePolicy": [],
        "_fold": ["fold"],
        "HTTPFold": ["fold"],
        "intelligence": [],
    }.items(),
)
def test_identifiers_are_split_into_words(name: str, want: list[str]) -> None:
    """At underscores and capitals; a word within a word is none."""
    assert list(retired(name)) == want
