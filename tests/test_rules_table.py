"""docs/rules.md is whole: each rule has a row, each row names files that exist and is shown by a test or a history."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import get_args

import pytest

from schemas.events import FleetControl
from schemas.vocabulary import GATES, ReasonCode, Strategy
from streams.core.policy.rulebook import Policy
from tests.support import rules
from tests.support.rules import ROOT, Row

ROWS = rules.rows()
BY_RULE = {row.rule: row for row in ROWS}
HISTORIES = rules.histories()
TESTS = rules.marked()
LINKS = rules.links()


def twice(words: Iterable[str]) -> list[str]:
    """Words that stand more than once."""
    return [word for word, count in Counter(words).items() if count > 1]


def test_every_rule_has_one_row() -> None:
    """A rule has one sentence, in one place."""
    assert len(ROWS) > 100
    assert twice(row.rule for row in ROWS) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.rule)
def test_a_row_names_what_exists(row: Row) -> None:
    """A sentence, the files that hold the rule, and at least one test or history that shows it."""
    assert row.sentence.endswith("."), "a rule is a sentence"
    assert row.files, "name the file that holds it"
    assert twice(row.files) == []
    assert [file for file in row.files if file not in LINKS] == [], "add the link at the foot of the page"
    shown = [name for name, named in HISTORIES.items() if row.rule in named]
    shown += [test.name for test in TESTS if row.rule in test.rules]
    assert shown, "no test and no history shows this rule: mark one with @pytest.mark.rule, or write a history"


def test_links_at_the_foot_of_the_page_lead_to_files_and_are_used() -> None:
    """A label is the end of its path, so that the table names the file that it links."""
    assert [path for path in LINKS.values() if not (ROOT / path).is_file()] == []
    assert [(label, path) for label, path in LINKS.items() if not path.endswith(f"/{label}")] == []
    assert sorted(LINKS) == sorted({file for row in ROWS for file in row.files})


def test_histories_and_tests_name_rules_that_have_a_row() -> None:
    """Each history names at least one; no history and no test names a rule twice or a rule that the page lacks."""
    named = [(name, words) for name, words in HISTORIES.items()]
    named += [(f"{test.path}::{test.name}", test.rules) for test in TESTS]
    assert [name for name, words in named if not words] == []
    assert [(name, twice(words)) for name, words in named if twice(words)] == []
    unknown = [(name, word) for name, words in named for word in words if word not in BY_RULE]
    assert unknown == [], "docs/rules.md lacks these: add the row, or correct the name"


def test_the_appendix_is_current() -> None:
    """docs/rules-tests.md is what the marks and the histories say."""
    assert rules.APPENDIX.read_text() == rules.appendix(), "run `python -m tests.support.rules`"


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
    numbered = [row.rule for row in ROWS if re.match(r"\d+\. ", row.sentence)]
    assert numbered == [f"gate.{gate}" for gate in GATES]
    numbers = [int(BY_RULE[rule].sentence.partition(".")[0]) for rule in numbered]
    assert numbers == list(range(1, len(GATES) + 1))


def test_every_file_that_decides_holds_a_rule() -> None:
    """Each file of the rules' own folder is named by a row; a reader of the page finds it."""
    folder = ROOT / "streams" / "core" / "policy" / "rules"
    files = {str(path.relative_to(ROOT)) for path in folder.glob("*.py")}
    assert files - set(LINKS.values()) == {"streams/core/policy/rules/__init__.py"}
