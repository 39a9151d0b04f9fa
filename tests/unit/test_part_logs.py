"""A part's log stays bounded while the part writes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.local import process
from streams.local.process import Part


class Talker(Part):
    """A part that says the same again and again."""

    name = "The talker"
    durable = True

    def _prepare(self) -> list[str]:
        return ["/bin/sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n of a part that says a lot; done"]

    def _answers(self) -> bool:
        return True


@pytest.fixture
def talker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talker]:
    """Give a part that runs, whose log is full early."""
    monkeypatch.setattr(process, "LOG_BYTES_MAX", 20_000)
    with Talker(log_file=tmp_path / "talker.log") as part:
        yield part


def until(condition: Callable[[], object]) -> None:
    """Wait for it."""
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_full_log_is_put_aside_and_the_part_goes_on(talker: Talker) -> None:
    """What it says afterwards is in the emptied file, from its beginning; the older one is replaced the next time."""
    older = talker.log_file.with_name("talker.log.1")
    sizes = []
    for _ in range(3):
        until(lambda: talker.log_file.stat().st_size > 40_000)
        talker.trim_log()
        sizes.append(older.stat().st_size)
    until(lambda: talker.log_file.stat().st_size > 100)
    talker.stop()
    assert all(size > 40_000 for size in sizes)
    first, *_ = talker.log_file.read_bytes().splitlines()
    assert b"\0" not in first, "it writes on where it was"
    assert not first.startswith(b"line 1 "), "the log was not emptied"
    assert sorted(one.name for one in talker.log_file.parent.iterdir()) == ["talker.log", "talker.log.1"]


def test_a_log_that_is_not_full_is_left_alone(talker: Talker) -> None:
    """Also one that is not there."""
    talker.stop()
    talker.log_file.write_bytes(b"x" * 20_000)
    talker.trim_log()
    assert talker.log_file.stat().st_size == 20_000
    talker.log_file.unlink()
    talker.trim_log()
    assert list(talker.log_file.parent.iterdir()) == []
