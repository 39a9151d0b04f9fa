"""`slotwise lag` shows what was seen, ends with the code of what is wrong, and goes on only when asked to."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from streams.errors import FAILED, UNREACHABLE
from streams.settings import Settings
from streams.topics import BrokerUnreachable
from streams.views.lag import LagReport, Look, report
from tests.support.every_command import Ended, run, unplugged
from tests.support.lags import SINK, WORKER, look, reading


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path) -> Iterator[None]:
    with unplugged(tmp_path):
        yield


def lag(monkeypatch: pytest.MonkeyPatch, reports: list[LagReport], *words: str) -> Ended:
    """Run the command on these reports, after which the broker is gone."""

    async def given(_settings: Settings, _interval_s: float) -> AsyncGenerator[LagReport]:
        for one in reports:
            yield one
        raise BrokerUnreachable("The broker is gone.")

    monkeypatch.setattr("streams.operate.lag.lag_reports", given)
    return run("lag", *words)


BEHIND = report(look(reading(3, 8, unread_s=10), at_s=2.0), look(reading(1, 8, unread_s=10)))
AT_END = report(look(reading(8, 8), at_s=2.0), look(reading(8, 8)))
LOST = report(Look(at_ms=0, at_s=0.0, readings={WORKER: {0: reading(8, 8)}}, troubles={SINK: "It is away."}))


def test_the_table_says_where_each_position_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a reader, the sentence, and the time that rates are over."""
    done = lag(monkeypatch, [BEHIND])
    assert (done.code, done.stderr) == (0, "")
    header, row, says = done.stdout.splitlines()
    assert header.split() == ["reader", "topic", "behind", "seconds", "age", "in/s", "out/s", "drained", "in", "by"]
    assert row.split() == ["sink", "decision.audit", "5", "50.0", "90.0", "0.0", "1.0", "5.0", "s", "Postgres"]
    assert says == (
        "The sink reading decision.audit is furthest behind: 5 records, the oldest 90.0 s old. Rates are over 2.0 s."
    )


def test_each_partition_has_its_line_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its position and its end."""
    assert "partition 0 at 3 of 8" in lag(monkeypatch, [BEHIND], "--partitions").stdout


@pytest.mark.parametrize(
    ("words", "want"),
    [
        pytest.param(("--max-records", "5", "--max-seconds", "90"), 0, id="as far as allowed"),
        pytest.param(("--max-records", "4"), FAILED, id="more records"),
        pytest.param(("--max-seconds", "89.5"), FAILED, id="longer"),
    ],
)
def test_a_threshold_that_is_passed_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], want: int
) -> None:
    """With a sentence that says which."""
    done = lag(monkeypatch, [BEHIND], *words)
    assert done.code == want
    assert ("The sink reading decision.audit is" in done.stderr) is bool(want)


def test_a_database_that_is_away_leaves_the_rest_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is that of a part that does not answer."""
    done = lag(monkeypatch, [LOST])
    assert done.code == UNREACHABLE
    assert "The sink reading decision.audit is not known: It is away." in done.stdout


def test_json_has_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the HTTP API gives them."""
    found = json.loads(lag(monkeypatch, [BEHIND], "--json").stdout)
    (sink,) = found["readers"]
    assert (sink["basis"], sink["records"], sink["drain_s"]) == ("audit", 5, 5.0)
    assert sink["partitions"][0]["position"] == 3


def test_a_watch_ends_when_a_threshold_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is a line of JSON; what comes after is not waited for."""
    done = lag(monkeypatch, [AT_END, AT_END, BEHIND], "--watch", "--json", "--max-records", "1")
    assert done.code == FAILED
    assert [json.loads(one)["says"][:7] for one in done.stdout.splitlines()] == ["Nothing", "Nothing", "The sin"]


def test_a_watch_ends_with_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence."""
    done = lag(monkeypatch, [AT_END], "--watch")
    assert (done.code, done.stderr.startswith("The broker is gone."), done.stderr.count("\n")) == (UNREACHABLE, True, 1)
