"""Commands join a running `slotwise up` by its file, whatever the file holds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from streams import up_file
from streams.local.own_parts import SinkPart
from streams.settings import Settings
from tests.support.every_command import run, unplugged

FILE: dict[str, Any] = {
    "broker": "127.0.0.1:9",
    "database": "postgresql://127.0.0.1:9/x",
    "web": "http://127.0.0.1:9",
    "pids": {"up": os.getpid()},
}


def check(directory: Path, content: bytes) -> str:
    """Run `slotwise check` beside a file of this content; what it says on standard error."""
    (directory / ".slotwise").mkdir()
    (directory / ".slotwise" / "up.json").write_bytes(content)
    with unplugged(directory):
        ended = run("check")
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b'{"pids": {"up": 1e3}}', b""])
def test_a_file_that_cannot_be_read_is_no_installation(tmp_path: Path, content: bytes) -> None:
    """The command asks the broker of the settings."""
    assert "up.json" not in check(tmp_path, content)


@pytest.mark.parametrize(
    "more", [{"settings": {"partitions": ["a"]}}, {"settings": {"partitons": 8}}, {"web": "http://here:there"}]
)
def test_a_file_of_another_version_says_what_to_do(tmp_path: Path, more: dict[str, Any]) -> None:
    """A setting that this version does not know, or of another form."""
    said = check(tmp_path, json.dumps(FILE | more).encode())
    assert ".slotwise/up.json is of another slotwise" in said
    assert "start `slotwise up` again" in said


def test_a_process_number_that_there_cannot_be_is_no_installation(tmp_path: Path) -> None:
    """It is larger than any."""
    assert "up.json" not in check(tmp_path, json.dumps(FILE | {"pids": {"up": 2**62}}).encode())


def test_a_host_that_there_cannot_be_is_one_that_does_not_answer(tmp_path: Path) -> None:
    """As the address of a worker's pages."""
    with unplugged(tmp_path):
        for host in ("a\x19b", "é" * 80, "[::1", "a b"):
            ended = run("tables", "show", "utilisation", f"--web-host={host}")
            assert (ended.code, ended.stderr.partition(" at ")[0]) == (3, "No worker answers")


def test_prometheus_finds_worker_and_sink_as_long_as_they_run(tmp_path: Path) -> None:
    """By a file in the form of its `file_sd_configs`, which ends with the run."""
    content = up_file.UpFile(
        broker="b:1", database="", web="http://127.0.0.1:6066", sink="http://127.0.0.1:6067", pids={}
    )
    up_file.write(tmp_path, content)
    assert json.loads((tmp_path / "targets.json").read_bytes()) == [
        {"targets": ["127.0.0.1:6066"], "labels": {"job": "slotwise-worker"}},
        {"targets": ["127.0.0.1:6067"], "labels": {"job": "slotwise-sink"}},
    ]
    up_file.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_sink_of_an_installation_always_has_its_pages(tmp_path: Path) -> None:
    """At a free port, or at the one that was asked for: else the alert about a missing sink would fire."""
    part = SinkPart(Settings(), log_file=tmp_path / "sink.log")
    assert part.port > 0
    assert part._environment()["SLOTWISE_SINK_WEB_PORT"] == str(part.port)
    assert part.pages == f"http://127.0.0.1:{part.port}"


def test_the_browser_is_for_people(tmp_path: Path) -> None:
    """Nothing is started."""
    with unplugged(tmp_path):
        refused = run("up", "--open", "--json")
    assert refused.code == 2
    assert "--open is for people" in refused.stderr
