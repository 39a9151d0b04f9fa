"""Every bad situation is one sentence on standard error, with an exit code for scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec import Struct

from tests.functional.commands import DEADLINE_S, environment, slotwise

if TYPE_CHECKING:
    from tests.functional.commands import Up

MISTAKE, UNREACHABLE = 2, 3
#: A port on which nothing listens: the discard service is not installed anywhere any more.
NOBODY = "127.0.0.1:9"


class Case(Struct, frozen=True, kw_only=True):
    """A command that cannot do what it says."""

    words: tuple[str, ...]
    env: dict[str, str] = {}
    want_code: int
    #: A part of the sentence: what is wrong, or what to do.
    want: str


CASES: dict[str, Case] = {
    "a variable that is no setting": Case(
        words=("settings",), env={"SLOTWISE_BROKRE": "x"}, want_code=MISTAKE, want="did you mean SLOTWISE_BROKER"
    ),
    "a setting out of its range": Case(words=("worker", "--partitions", "0"), want_code=MISTAKE, want="PARTITIONS"),
    "a setting that is no number": Case(
        words=("topics", "list", "--partitions", "many"), want_code=MISTAKE, want="SLOTWISE_PARTITIONS='many'"
    ),
    "a command that does not exist": Case(words=("rout",), want_code=MISTAKE, want="No such command"),
    "an option that does not exist": Case(words=("up", "--smaple"), want_code=MISTAKE, want="--sample"),
    "an argument out of its list": Case(words=("send", "tasks", "-"), want_code=MISTAKE, want="'tasks'"),
    "a file that is not there": Case(
        words=("send", "task", "no-such-file"), want_code=MISTAKE, want="no-such-file cannot be read"
    ),
    "a broker that does not answer, for topics": Case(
        words=("topics", "check", "--broker", NOBODY), want_code=UNREACHABLE, want=f"No broker answers at {NOBODY}"
    ),
    "a broker that does not answer, for a worker": Case(
        words=("worker", "--web-port", "0", "--broker", NOBODY), want_code=UNREACHABLE, want="No broker answers"
    ),
    "a broker that does not answer, for send": Case(
        words=("send", "task", "-", "--broker", NOBODY), want_code=UNREACHABLE, want="No broker answers"
    ),
    "a database that does not answer, for migrate": Case(
        words=("db", "migrate", "--database", f"postgresql://{NOBODY}/x"),
        want_code=UNREACHABLE,
        want="cannot be reached",
    ),
    "a database that does not answer, for explain": Case(
        words=("explain", "t-1", "--database", f"postgresql://{NOBODY}/x"),
        want_code=UNREACHABLE,
        want="cannot be reached",
    ),
    "a broker that does not answer, for an audit": Case(
        words=("audit", "--broker", NOBODY), want_code=UNREACHABLE, want=f"No broker answers at {NOBODY}"
    ),
    "a database that does not answer, for a sink": Case(
        words=("sink", "--database", f"postgresql://{NOBODY}/x"), want_code=UNREACHABLE, want="cannot be reached"
    ),
    "a worker that does not answer": Case(
        words=("tables", "show", "utilisation", "--web-port", "9"), want_code=UNREACHABLE, want="No worker answers"
    ),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=situation) for situation, case in CASES.items()])
def test_it_is_one_sentence_and_an_exit_code(case: Case, tmp_path: Path) -> None:
    """The message says what to do next, without a traceback."""
    # A directory where nothing runs, so that no address is found by itself.
    found = slotwise(*case.words, env={"SLOTWISE_DATA_DIR": str(tmp_path), **case.env})
    assert (found.returncode, found.stdout) == (case.want_code, "")
    assert case.want in found.stderr
    assert found.stderr.count("\n") == 1
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("situation", ["a setting out of its range", "a broker that does not answer, for topics"])
def test_with_json_the_sentence_is_json_too(situation: str, tmp_path: Path) -> None:
    """A program that asked for JSON gets the mistake as JSON, with the same exit code."""
    case = CASES[situation]
    found = slotwise(*case.words, "--json", env={"SLOTWISE_DATA_DIR": str(tmp_path), **case.env})
    assert found.returncode == case.want_code
    result = json.loads(found.stderr)
    assert case.want in result["error"]
    assert result["exit_code"] == case.want_code


def test_another_number_of_partitions_is_refused(installation: Up) -> None:
    """A worker with another idea of the partitions would split a pool's history, so it does not start."""
    words = ("--broker", installation.at.broker, "--partitions", "4")
    for command in (("topics", "check"), ("worker", "--web-port", "0")):
        found = slotwise(*command, *words)
        assert found.returncode == MISTAKE
        assert "has 8 partitions and slotwise is set to 4" in found.stderr
        assert found.stderr.count("\n") == 1


def test_topics_that_are_missing_are_named_with_the_command_that_makes_them(installation: Up) -> None:
    """Nothing makes a topic in passing."""
    found = slotwise("topics", "check", "--broker", installation.at.broker, "--topic-prefix", "elsewhere.")
    assert found.returncode == MISTAKE
    assert "elsewhere.task.pending" in found.stderr
    assert "slotwise topics create" in found.stderr


def test_topics_whose_settings_differ_are_listed(installation: Up) -> None:
    """What the broker has is compared with what the settings here make of it; as created, nothing differs."""
    listed = json.loads(installation.command("topics", "list", "--json").stdout)
    assert {one["partitions"] for one in listed} == {8}
    assert [one["differences"] for one in listed if one["differences"]] == []
    shorter = installation.command("topics", "check", "--retention-hours", "24")
    assert shorter.returncode == 1
    assert "task.pending: retention.ms is 604800000, and the settings here make it 86400000." in shorter.stdout


def test_a_port_in_use_is_reported_by_a_worker(installation: Up) -> None:
    """Two workers on one port: the second one says so before it joins anything."""
    port = installation.at.web.rpartition(":")[2]
    found = slotwise("worker", "--broker", installation.at.broker, "--web-port", port)
    assert found.returncode == UNREACHABLE
    assert f"cannot listen on 127.0.0.1:{port}" in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "want"),
    [
        pytest.param("catalog", "[[model]]\nid = 'opus'\n", "model", id="a catalogue that lacks nearly everything"),
        pytest.param("policy", "[premum]\n", "premium", id="a policy with a slip of the pen"),
        pytest.param("policy", "[premium\n", "policy", id="a policy that is no TOML"),
    ],
)
def test_a_mistake_in_a_file_that_decides_stops_the_start(
    installation: Up, tmp_path: Path, name: str, text: str, want: str
) -> None:
    """The sentence names the file's key, and no worker runs on half a policy."""
    file = tmp_path / f"{name}.toml"
    file.write_text(text)
    found = slotwise("worker", "--broker", installation.at.broker, "--web-port", "0", f"--{name}", str(file))
    assert found.returncode == MISTAKE
    assert want in found.stderr
    assert "Traceback" not in found.stderr


HELP = [
    ("up",), ("worker",), ("sink",), ("sample",), ("send",), ("explain",), ("audit",), ("settings",), ("version",),
    ("web",), ("token",),
    ("topics", "create"), ("topics", "list"), ("topics", "check"), ("db", "migrate"), ("tables", "show"),
]  # fmt: skip


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_of_every_command_has_an_example_and_json(words: tuple[str, ...]) -> None:
    """Who forgot how to write it finds a line to copy."""
    found = slotwise(*words, "--help")
    assert found.returncode == 0
    assert "Example: " in found.stdout
    assert "slotwise " + " ".join(words) in found.stdout.partition("Example: ")[2]
    assert "--json" in found.stdout


def test_settings_are_options_of_the_commands_that_use_them() -> None:
    """An option is read as the variable is; what is on the command line wins."""
    found = slotwise("settings", "--json", "--partitions", "3", env={"SLOTWISE_PARTITIONS": "5", "SLOTWISE_GROUP": "g"})
    rows = {row["name"]: row["value"] for row in msgspec.json.decode(found.stdout)}
    assert (rows["partitions"], rows["group"]) == (3, "g")


def test_another_program_s_package_of_our_name_is_named_in_one_sentence(tmp_path: Path) -> None:
    """Its module came in place of ours."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").touch()
    (tmp_path / "schemas" / "events.py").write_text("THEIRS = 1\n")
    found = subprocess.run(
        [sys.executable, "-m", "streams.cli", "version"],
        cwd=tmp_path,  # which comes first on the path
        env=environment({"PYTHONPATH": str(Path(__file__).parents[2])}),
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1
    assert f"({tmp_path}/schemas/" in found.stderr
    assert "is not that of slotwise" in found.stderr


def test_help_and_version_are_found_by_their_short_names() -> None:
    """On the program and on each command."""
    assert slotwise("--version").stdout == slotwise("version").stdout
    assert slotwise("-h").stdout == slotwise("--help").stdout
    assert slotwise("quota", "set", "-h").stdout == slotwise("quota", "set", "--help").stdout
