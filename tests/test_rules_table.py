"""docs/rules.md is whole: each rule has a row, each row names files and tests that exist, no history is left out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
import yaml

from schemas.events import FleetControl
from schemas.vocabulary import GATES, ReasonCode, Strategy
from streams.core.policy.rulebook import Policy

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "rules.md"
_LINK = re.compile(r"\[(`?)([^\]`]+)\1\]\(([^)]+)\)")


class Row(NamedTuple):
    """A rule: its name, its sentence, where it stands, and what holds it to that."""

    rule: str
    sentence: str
    #: Paths from the root.
    files: tuple[str, ...]
    #: Golden histories by name.
    histories: tuple[str, ...]
    #: (path, name of the function).
    tests: tuple[tuple[str, str], ...]


def _rows() -> list[Row]:
    rows = []
    for line in PAGE.read_text().splitlines():
        if not line.startswith("| **"):
            continue
        said, where, tests = (cell.strip() for cell in line.strip("|").split(" | "))
        rule, sentence = re.fullmatch(r"\*\*(\S+)\*\* (.+)", said).groups()  # type: ignore[union-attr]  # else it fails
        links = [(bool(tick), text, _path(link)) for tick, text, link in _LINK.findall(tests)]
        rows.append(
            Row(
                rule,
                sentence,
                tuple(_path(link) for _, _, link in _LINK.findall(where)),
                tuple(path.removeprefix("tests/golden/").removesuffix(".yaml") for tick, _, path in links if not tick),
                tuple((path, text) for tick, text, path in links if tick),
            )
        )
    return rows


def _path(link: str) -> str:
    """A link of the page as a path from the root."""
    return str((PAGE.parent / link).resolve().relative_to(ROOT))


@cache
def functions(path: str) -> frozenset[str]:
    """The functions that a file defines."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def histories() -> dict[str, tuple[str, ...]]:
    """Each golden history and the rules that it names."""
    golden = ROOT / "tests" / "golden"
    return {
        str(path.relative_to(golden).with_suffix("")): tuple(yaml.safe_load(path.read_text())["rules"])
        for path in sorted(golden.rglob("*.yaml"))
    }


ROWS = _rows()
BY_RULE = {row.rule: row for row in ROWS}


def test_every_rule_has_one_row() -> None:
    """A rule that stands twice is two rules one day."""
    assert len(ROWS) > 100
    assert sorted(BY_RULE) == sorted(row.rule for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.rule)
def test_a_row_names_what_exists(row: Row) -> None:
    """A sentence, the file that holds the rule, and a test or a history."""
    assert row.sentence.endswith("."), "a rule is a sentence"
    assert row.files, "say where it stands"
    assert [file for file in row.files if not (ROOT / file).is_file()] == []
    assert row.histories or row.tests, "nothing holds this rule to its sentence"
    assert [(path, name) for path, name in row.tests if name not in functions(path)] == []


def test_histories_and_rows_name_each_other() -> None:
    """In both directions: the rules of a file are the rows that show it."""
    named = {(row.rule, history) for row in ROWS for history in row.histories}
    told = {(rule, history) for history, rules in histories().items() for rule in rules}
    assert sorted(told - named) == [], "docs/rules.md lacks these: add the file to the row, or the row"
    assert sorted(named - told) == [], "the files do not say so: add the rule to `rules:`, or take the link away"


def missing(kind: str, words: Iterable[object]) -> list[str]:
    """Words of a closed list without a row."""
    return [f"{kind}.{word}" for word in words if f"{kind}.{word}" not in BY_RULE]


def test_every_word_of_every_closed_list_has_a_row() -> None:
    """Gates, strategies, reason codes, kinds of operators' events, sections of the policy, and all 27 details."""
    lacking = missing("gate", GATES)
    lacking += missing("strategy", get_args(Strategy))
    lacking += missing("reason", get_args(ReasonCode))
    lacking += missing("control", (kind.__struct_config__.tag for kind in get_args(FleetControl)))
    lacking += missing("policy", Policy.__struct_fields__)
    lacking += missing("detail", range(1, 28))
    assert lacking == []


def test_gates_stand_in_the_order_in_which_they_are_asked() -> None:
    """With their numbers."""
    numbered = [row.rule for row in ROWS if re.match(r"\d\. ", row.sentence)]
    assert numbered == [f"gate.{gate}" for gate in GATES]
    assert [BY_RULE[rule].sentence[0] for rule in numbered] == list("123456789")


def test_every_file_that_decides_holds_a_rule() -> None:
    """Of the rules' own folder each file is named; a rule that nobody can find is not read."""
    shown = {file for row in ROWS for file in row.files}
    rules = {str(path.relative_to(ROOT)) for path in (ROOT / "streams" / "core" / "policy" / "rules").glob("*.py")}
    assert rules - shown == {"streams/core/policy/rules/__init__.py"}
