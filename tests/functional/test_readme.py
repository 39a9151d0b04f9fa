"""The README tells the truth: its settings, commands, dependencies and links are those of the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer

from streams.cli import app
from streams.commands.settings import markdown_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands() -> set[str]:
    """Name every command as it is typed."""
    root = typer.main.get_command(app)
    found = set()
    for name, command in root.commands.items():  # type: ignore[attr-defined] # a group, as the next line asks
        below = getattr(command, "commands", None)
        found |= {name} if below is None else {f"{name} {one}" for one in below}
    return found


def test_the_settings_table_is_current() -> None:
    """`slotwise settings --markdown` writes what stands between the markers."""
    written = README.partition("<!-- settings:")[2].partition("-->\n")[2].partition("\n<!-- end of settings -->")[0]
    assert written == "\n".join(markdown_table()), "run `slotwise settings --markdown` and paste"


def test_every_dependency_says_why_it_is_there() -> None:
    """Each run-time dependency of pyproject.toml has a line, and no line is left over."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[\[<>=~!]", line)[0] for line in project["dependencies"]}
    section = README.partition("## What it is made of")[2].partition("Versions and hashes")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \| \S", section, re.MULTILINE)) == wanted


def test_commands_that_the_readme_names_exist() -> None:
    """Whatever follows `slotwise` in code is a command, and every command has its line."""
    known = commands()
    named = set(re.findall(r"`?slotwise ((?:catalog|db|policy|quota|tables|topics) [a-z]+|[a-z-]+)\b", _code(README)))
    assert named <= known | {name.partition(" ")[0] for name in known}
    listed = README.partition("| command | what it does |")[2].partition("\n\n")[0]
    groups = {name.partition(" ")[0] for name in known}
    assert {name.partition(" ")[0] for name in re.findall(r"^\| `slotwise ([a-z -]+)`", listed, re.MULTILINE)} == groups


@pytest.mark.parametrize("page", ["README.md", "docs/dispatcher.md", "docs/extending.md"])
def test_links_lead_somewhere(page: str) -> None:
    """No link of a page leads to a file that is not there."""
    file = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text())
    assert links
    assert [link for link in links if not (file.parent / link).exists()] == []


def test_make_targets_that_the_readme_names_exist() -> None:
    """`make run` and `make test` are what they are said to be."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def _code(text: str) -> str:
    return "\n".join([*re.findall(r"```sh\n(.*?)```", text, re.DOTALL), *re.findall(r"`slotwise [^`]+`", text)])
