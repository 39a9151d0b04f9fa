"""The rules and what shows them: docs/rules.md, `@pytest.mark.rule` on tests, `rules:` of golden histories.

docs/rules.md has the sentences and the files. Tests and histories name the rules that they show: a test by its mark, a
history by its list. `python -m tests.support.rules` collects both into docs/rules-tests.md.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
PAGE = ROOT / "docs" / "rules.md"
APPENDIX = ROOT / "docs" / "rules-tests.md"

_HEAD = """# The tests of the rules

For each rule of [rules.md](rules.md): the [golden histories](../tests/golden/README.md) and the tests that show it.
`python -m tests.support.rules` writes this page from `rules:` of the histories and `@pytest.mark.rule` of the tests;
do not edit it.
"""


class Row(NamedTuple):
    """A rule on the page."""

    section: str
    rule: str
    sentence: str
    #: Labels of the links, as written: `[premium.py]`.
    files: tuple[str, ...]


class Test(NamedTuple):
    """A test function and the rules that it is marked with."""

    #: From the root: "tests/unit/test_gates.py".
    path: str
    name: str
    rules: tuple[str, ...]


def rows(text: str | None = None) -> list[Row]:
    """Read the tables of docs/rules.md in the order of the page."""
    found, section = [], ""
    for line in (PAGE.read_text() if text is None else text).splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        if line.startswith("| **"):
            rule, sentence, files = re.fullmatch(r"\| \*\*(\S+)\*\* (.+) \| (.+) \|", line).groups()  # type: ignore[union-attr]  # else it fails
            found.append(Row(section, rule, sentence, tuple(re.findall(r"\[([^\]]+)\]", files))))
    return found


def links() -> dict[str, str]:
    """Read the link definitions at the foot of docs/rules.md: the path from the root by label."""
    return dict(re.findall(r"^\[([^\]]+)\]: \.\./(\S+)$", PAGE.read_text(), re.MULTILINE))


def histories() -> dict[str, tuple[str, ...]]:
    """Each golden history ("gates/floor") and the rules that it names."""
    return {
        str(path.relative_to(GOLDEN).with_suffix("")): tuple(yaml.safe_load(path.read_text())["rules"])
        for path in sorted(GOLDEN.rglob("*.yaml"))
    }


def marked() -> list[Test]:
    """Every test with `@pytest.mark.rule(...)`, by path and place in the file; no test is imported for this."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                calls = [call for call in node.decorator_list if isinstance(call, ast.Call)]
                named = [
                    ast.literal_eval(word)
                    for call in calls
                    if ast.unparse(call.func) == "pytest.mark.rule"
                    for word in call.args
                ]
                if named:
                    found.append(Test(str(path.relative_to(ROOT)), node.name, tuple(named)))
    return found


def appendix() -> str:
    """Write docs/rules-tests.md: sections and rules in the order of docs/rules.md."""
    by_history, tests = histories(), marked()
    lines, section = [_HEAD], ""
    for row in rows():
        if row.section != section:
            section = row.section
            lines += [f"## {section}", ""]
        lines += [f"**{row.rule}**", ""]
        lines += [f"- [{name}](../tests/golden/{name}.yaml)" for name, rules in by_history.items() if row.rule in rules]
        lines += [f"- [`{test.name}`](../{test.path})" for test in tests if row.rule in test.rules]
        lines += [""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    APPENDIX.write_text(appendix())
