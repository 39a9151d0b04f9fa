"""Settings as options: what a command takes from a running `slotwise up`, and what it says where there is none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from streams import up_file
from streams.commands.options import NothingRuns, sources, takes
from streams.errors import UNREACHABLE
from streams.settings import Settings
from streams.topics import BrokerUnreachable
from streams.up_file import UpFile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLOTWISE_")]:
        monkeypatch.delenv(name)


@takes("broker", "group", join=True)
def look(settings: Settings) -> None:
    """Fail as a command does whose broker is away."""
    raise BrokerUnreachable(f"No broker answers at {settings.broker}.")


def test_where_nothing_runs_and_nothing_was_named_the_sentence_says_so(tmp_path: Path) -> None:
    """A newcomer who has ended `slotwise up` learns how to have the audit again; the exit code stays."""
    with pytest.raises(
        NothingRuns, match=r"No broker answers at 127\.0\.0\.1:9092\. No `slotwise up` runs on"
    ) as ended:
        look(broker=None, group=None, data_dir=str(tmp_path))
    assert ended.value.exit_code == UNREACHABLE


def test_a_broker_that_was_named_is_the_only_one_spoken_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an option or by a variable."""
    with pytest.raises(BrokerUnreachable):
        look(broker="kafka-1:9092", group=None, data_dir=str(tmp_path))
    monkeypatch.setenv("SLOTWISE_DATABASE", "postgresql://db/slotwise")
    with pytest.raises(BrokerUnreachable):
        look(broker=None, group=None, data_dir=str(tmp_path))


def test_each_value_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option wins over the environment, that over what runs, and that over the default."""
    up_file.write(
        tmp_path,
        UpFile(
            broker="127.0.0.1:1",
            database="postgresql://127.0.0.1:2/slotwise",
            web="http://127.0.0.1:3",
            pids={"up": os.getpid()},
            settings={"partitions": 4, "journal": "j-1"},
        ),
    )
    monkeypatch.setenv("SLOTWISE_JOURNAL", "mine")
    found = sources(Settings(data_dir=str(tmp_path)), ["data_dir"])
    assert found["broker"] == found["partitions"] == found["kafka_user"] == "slotwise up"
    assert (found["journal"], found["data_dir"], found["group"]) == ("environment", "option", "default")
    up_file.remove(tmp_path)
    assert sources(Settings(data_dir=str(tmp_path)), [])["broker"] == "default"
