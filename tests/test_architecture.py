"""The house keeps its plan: imports point one way, the core stays pure, and every file says what it is for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mutation.chosen import TESTS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

#: The core: a function of its input. Time, identity and chance are given to it.
PURE = ("schemas", "streams/core")

#: What would make it depend on when, where or how often it runs.
FORBIDDEN_MODULES = frozenset(
    {"aiokafka", "asyncio", "faust", "kafka", "os", "psycopg", "psycopg_pool", "random", "time"}
    | {"io", "secrets", "socket", "subprocess", "threading"}
)
FORBIDDEN_CALLS = frozenset(
    {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "uuid.uuid1", "uuid.uuid4", "uuid1", "uuid4"}
    | {"open", "input", "print"}
)

LINES_MAX = 450


def python_files(*places: str) -> list[Path]:
    """List the Python files of some packages or modules, in a steady order."""
    found: set[Path] = set()
    for place in places:
        path = ROOT / place
        found.update([path] if path.is_file() else path.rglob("*.py"))
    return sorted(found)


def name_of(path: Path) -> str:
    """Name a file as people do, from the root."""
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> Iterator[str]:
    """Name the outermost module of each import, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def called(tree: ast.AST) -> Iterator[str]:
    """Name each function that is called by a plain name, or by one name in another."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name):
                    yield name
                case ast.Attribute(value=ast.Name(id=owner), attr=name):
                    yield f"{owner}.{name}"
                case ast.Attribute(value=ast.Attribute(attr=owner), attr=name):
                    yield f"{owner}.{name}"


def test_imports_point_one_way() -> None:
    """The contracts in pyproject.toml hold."""
    # As a program: called in here, it would switch off the loggers of everything that is imported.
    checked = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, check=False)
    assert checked.returncode == 0, "run 'make check' to see which import breaks which contract"


@pytest.mark.parametrize("path", python_files(*PURE), ids=name_of)
def test_the_core_knows_no_clock_no_chance_and_no_network(path: Path) -> None:
    """A file of the core imports nothing that reads the world, and asks nothing for the time or a new identity."""
    tree = ast.parse(path.read_text())
    assert FORBIDDEN_MODULES.intersection(imported(tree)) == set()
    assert FORBIDDEN_CALLS.intersection(called(tree)) == set()


def test_only_commands_start_an_event_loop() -> None:
    """Everything else can be awaited, also by a web page under a loop of its own; the worker has Faust's.

    Where kafka-python's clients are made, which block, the broker is asked in a thread with a loop of its own. The
    client for programs without a loop has one in a thread.
    """
    starting = {"asyncio.run", "asyncio.new_event_loop", "loop.run_until_complete"}
    found = {name_of(path) for path in python_files("streams") if starting & {*called(ast.parse(path.read_text()))}}
    assert {name for name in found if not name.startswith("streams/commands/")} == {
        "streams/access/refusal.py",
        "streams/client/loop.py",
        "streams/worker.py",
    }


def test_every_kafka_client_is_reached_in_one_way() -> None:
    """Who makes a client takes its options from `client_options`; without them it would ignore TLS and login."""
    made = {
        f"{name_of(path)}:{node.lineno}": [ast.unparse(one.value) for one in node.keywords if one.arg is None]
        for path in python_files("streams")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and re.fullmatch(r"(AIO)?Kafka(Producer|Consumer|AdminClient|Client)", node.func.id)
    }
    assert len(made) >= 9
    assert [at for at, given in made.items() if not any(one.startswith("client_options(") for one in given)] == []


@pytest.mark.parametrize("path", python_files("schemas", "streams"), ids=name_of)
def test_no_file_is_longer_than_450_lines(path: Path) -> None:
    """A file holds one noun: one that has grown past this holds two, and no reader can keep it in mind."""
    assert len(path.read_text().splitlines()) <= LINES_MAX, "give the second noun a file of its own"


@pytest.mark.parametrize("path", python_files("schemas", "streams", "tests", "deploy"), ids=name_of)
def test_every_file_opens_by_saying_what_it_is_for(path: Path) -> None:
    """A newcomer learns from a file's first line whether to read on."""
    assert ast.get_docstring(ast.parse(path.read_text())), f"{name_of(path)} needs a docstring on its first line"


def test_the_tests_that_are_tried_on_mutants_exist() -> None:
    """`make mutate` names them by file, and a renamed file would end it."""
    assert [path for path in TESTS if not (ROOT / path).exists()] == []
