"""The README is true: its first steps work as typed, and its commands and dependencies are those of the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streams.cli import app
from tests.functional.commands import DEADLINE_S, environment, until

if TYPE_CHECKING:
    from tests.functional.commands import Up

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


def section(title: str) -> str:
    """Give the text of a section of the README."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def blocks(text: str) -> list[tuple[str, str]]:
    """Find the fenced blocks of a text: (language, content)."""
    return re.findall(r"```(sh|text)\n(.*?)\n```", text, re.DOTALL)


def same_for_all(text: str) -> str:
    """Take out what differs from run to run: times, hashes, and blanks at the end of a line."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    return "\n".join(line.rstrip() for line in re.sub(r"\b[0-9a-f]{16}\b", "HASH", text).strip().splitlines())


class Terminal:
    """A shell in a folder where `make` installed slotwise and `slotwise up` runs."""

    def __init__(self, folder: Path, up: Up) -> None:
        self.folder = folder
        self.exports = ""
        (folder / ".slotwise").symlink_to(up.directory)
        program = folder / ".venv" / "bin" / "slotwise"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m streams.cli "$@"\n')
        program.chmod(0o755)

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run one line; what earlier lines exported holds."""
        env = {**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        return subprocess.run(
            ["/bin/sh", "-c", f"{self.exports}{line}"],
            cwd=self.folder, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip

    def type(self, block: str) -> str:
        """Run the lines of a block, each as typed, and give the output of the last one."""
        shown = ""
        for line in block.splitlines():
            if line.startswith("export "):
                self.exports += f"{line}\n"
                continue
            done = self.run(line)
            if line.startswith("slotwise explain"):  # a person is slower than the audit, a test may not be
                until(lambda line=line: self.run(line).returncode == 0, line)  # type: ignore[misc]
                done = self.run(line)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            shown = done.stdout
        return shown


def test_the_first_steps_work_as_typed(installation: Up, tmp_path: Path) -> None:
    """From the announcement of a slot to its release: each command succeeds and prints what the README shows."""
    terminal = Terminal(tmp_path, installation)
    shown, compared = "", 0
    for title in ("Your first task", "Why it went there", "A dispatcher"):
        for language, content in blocks(section(title).partition("A short program does that")[0]):
            if language == "sh":
                shown = terminal.type(content)
            else:
                assert same_for_all(shown) == same_for_all(content), f"under '{title}' the README shows something else"
                compared += 1
    assert compared == 3


def test_the_dispatcher_prints_what_the_readme_shows(installation: Up, tmp_path: Path) -> None:
    """The example finds the broker by itself, does the task, and says why it got it."""
    terminal = Terminal(tmp_path, installation)
    (_, started), (_, sent), (_, printed) = blocks(section("A dispatcher").partition("A short program does that")[2])
    exported, start = started.splitlines()
    terminal.type(exported)
    program = ROOT / re.match(r"python (\S+)", start)[1]  # type: ignore[index]  # else it fails
    output = tmp_path / "dispatcher.log"
    with output.open("wb") as log:
        dispatcher = subprocess.Popen(
            [sys.executable, str(program)], cwd=tmp_path, stdout=log, stderr=log, env=environment()
        )
    try:
        terminal.type(sent)
        until(lambda: dispatcher.poll() is not None or output.read_text().strip(), "the task at the dispatcher")
        assert same_for_all(output.read_text()) == same_for_all(printed)
    finally:
        dispatcher.kill()
        dispatcher.wait()


def test_every_dependency_says_why_it_is_there() -> None:
    """Each run-time dependency of pyproject.toml has a line, and no line is left over."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[\[<>=~!]", line)[0] for line in project["dependencies"]}
    listed = section("What it is made of").partition("Versions and hashes")[0]
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \| \S", listed, re.MULTILINE)) == wanted


def test_commands_that_the_readme_names_exist() -> None:
    """Each `slotwise ...` in code is a command, and every command has its line in the table."""
    known = commands()
    named = set(re.findall(r"`?slotwise ((?:catalog|db|policy|quota|tables|topics) [a-z]+|[a-z-]+)\b", _code(README)))
    assert named <= known | {name.partition(" ")[0] for name in known}
    listed = README.partition("| command | what it does |")[2].partition("\n\n")[0]
    groups = {name.partition(" ")[0] for name in known}
    assert {name.partition(" ")[0] for name in re.findall(r"^\| `slotwise ([a-z -]+)`", listed, re.MULTILINE)} == groups


def test_make_targets_that_the_readme_names_exist() -> None:
    """`make run` and `make test` are what they are said to be."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)", _code(README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def _code(text: str) -> str:
    return "\n".join(
        [*re.findall(r"```sh\n(.*?)```", text, re.DOTALL), *re.findall(r"`(?:slotwise|make) [^`]+`", text)]
    )
