"""`slotwise shadow diff`, `status` and `stop` on what the database has: tables, JSON, CSV, and codes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.vocabulary import MicroUsd
from streams.errors import FAILED, MISTAKE
from streams.shadow.against import AgainstReport, Compared
from streams.shadow.report import NoShadowError, ShadowReport, sentence
from streams.shadow.sums import Side, Sums
from tests.support.every_command import run, unplugged
from tests.support.shadow_rows import ONE, RUN


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path) -> Iterator[None]:
    with unplugged(tmp_path):
        yield


MORE = replace(RUN, differences={"other_model": 1, "other_reason": 2})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Give a database with one shadow, and what is asked of it."""
    found: list[dict[str, Any]] = []

    def report(_dsn: object, name: str | None, **named: Any) -> ShadowReport:
        if name not in (None, "p70"):
            raise NoShadowError("There is no such shadow.")
        found.append({"name": name, "kind": named["kind"], "limit": named["limit"]})
        return ShadowReport(run=MORE, differences=(ONE,), more=2)

    def end(_dsn: object, name: str, *, forget: bool, timeouts: object) -> int:
        del timeouts
        found.append({"name": name, "forget": forget})
        return int(name == "p70")

    monkeypatch.setattr("streams.shadow.report.report", report)
    monkeypatch.setattr("streams.shadow.report.shadows", lambda *_, **__: (MORE,))
    monkeypatch.setattr("streams.shadow.report.end", end)
    return found


def test_diff_says_it_first_then_both_sides_then_each_difference(asked: list[dict[str, Any]]) -> None:
    """With the choices, the money and the shadow's sentence."""
    done = run("shadow", "diff", "p70", "--limit", "1")
    assert (done.code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == RUN.says
    assert [one.split()[:5] for one in lines[2:4]] == [["live", "8", "6,", "0,", "2"], ["shadow", "7", "3,", "0,", "4"]]
    assert lines[4] == "Differences: 1 other model, 2 other reason."
    assert "haiku-1 (haiku): cheapest_capable" in done.stdout
    assert "opus-1 (opus): lifted" in done.stdout
    assert "+0.1250" in done.stdout
    assert lines[-1] == "2 more: --limit, --kind, --csv, --json."
    assert asked == [{"name": "p70", "kind": None, "limit": 1}]


def test_diff_is_json_and_csv_too(asked: list[dict[str, Any]]) -> None:
    """With the rules of both sides."""
    found = json.loads(run("shadow", "diff", "--kind", "other_model", "--json").stdout)
    assert found["differences"][0]["shadow"]["reason_code"] == "lifted"
    (row,) = csv.DictReader(io.StringIO(run("shadow", "diff", "--csv").stdout))
    assert (row["kind"], row["live_model"], row["shadow_reason"], row["more_usd"]) == (
        *("other_model", "haiku", "Its EV is above P70.", "0.125"),
    )
    assert [one["kind"] for one in asked] == ["other_model", None]


def test_what_is_not_there_has_a_code(asked: list[dict[str, Any]]) -> None:
    """No such shadow, no such kind, no such name, nothing to stop."""
    assert run("shadow", "diff", "nope").code == FAILED
    assert run("shadow", "diff", "--kind", "bigger").code == MISTAKE
    assert run("shadow", "start", "--name", "a b").code == MISTAKE
    assert run("shadow", "stop", "nope").code == FAILED
    assert run("shadow", "stop", "p70", "--forget").code == MISTAKE, "there is no terminal to ask on"
    assert run("shadow", "stop", "p70", "--forget", "--yes").code == 0
    assert asked == [{"name": "nope", "forget": False}, {"name": "p70", "forget": True}]


def test_status_lists_all(asked: list[dict[str, Any]]) -> None:
    """A line each."""
    row = run("shadow", "status").stdout.splitlines()[1].split()
    assert (row[0], row[-8:]) == ("p70", ["40", "3", "1", "aaaa", "cccc", "the", "live", "ones"])
    assert json.loads(run("shadow", "status", "--json").stdout)["shadows"][0]["run"] == "r-1"
    assert asked == []


def test_status_says_which_slots_a_shadow_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """As --fleet reads them."""
    more = replace(RUN, fleet={"opus": 3, "haiku": 6})
    monkeypatch.setattr("streams.shadow.report.shadows", lambda *_, **__: (more,))
    assert run("shadow", "status").stdout.splitlines()[1].split()[-1] == "opus=3,haiku=6"
    assert json.loads(run("shadow", "status", "--json").stdout)["shadows"][0]["fleet"] == {"opus": 3, "haiku": 6}


def test_a_fleet_that_cannot_be_is_refused_before_anything_is_asked() -> None:
    """Unknown models, several fleets, no fleet."""
    for words, said in (("gpt-9=1", "has no gpt-9"), ("opus=1..2", "several fleets"), ("opus", "no slots of a model")):
        done = run("shadow", "start", "--fleet", words)
        assert done.code == MISTAKE
        assert said in " ".join(done.stderr.split())


def test_against_shows_what_is_not_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file is read as a file; what is none is a table of the database."""
    choices: list[dict[str, str]] = []

    def compare(_dsn: object, journal: str, given: dict[str, str], **_: object) -> AgainstReport:
        assert journal == "decision.shadow"
        choices.append(given)
        other = Compared(match="other_model", task_id="t-0", theirs="opus", model="haiku", reason="Cheap.")
        same = Compared(match="same", task_id="t-1", theirs="haiku", model="haiku")
        return AgainstReport(says="2 tasks.", counts={}, theirs={}, here={}, tasks=(other, same))

    monkeypatch.setattr("streams.shadow.against.compare", compare)
    monkeypatch.setattr("streams.shadow.against.choices_in_table", lambda _dsn, table, **_: {"from": table})
    file = tmp_path / "choices.csv"
    file.write_text("task_id,model\nt-0,opus\n")
    lines = run("shadow", "diff", "--against", str(file)).stdout.splitlines()
    assert lines[0] == "2 tasks."
    assert [one.split() for one in lines[2:]] == [["other", "model", "t-0", "opus", "haiku", "Cheap."]]
    assert json.loads(run("shadow", "diff", "--against", "old.choices", "--json").stdout)["tasks"][1]["match"] == "same"
    assert len(run("shadow", "diff", "--against", "old.choices", "--csv").stdout.splitlines()) == 3
    assert choices == [{"t-0": "opus"}, {"from": "old.choices"}, {"from": "old.choices"}]


@pytest.mark.parametrize(("routed", "few"), [(900, False), (899, True)])
def test_the_sentence_says_when_the_money_is_that_of_other_tasks(routed: int, few: bool) -> None:
    """A shadow that prefers the same tasks again and again routes few: each counts once."""
    total = Sums(
        decisions=2_500,
        differences={"routes_instead": 1_200, "other_reason": 3},
        live=Side(routed=1_000, cost_uusd=MicroUsd(20_000_000)),
        shadow=Side(routed=routed, cost_uusd=MicroUsd(5_500_000)),
    )
    says = sentence(total)
    assert says.startswith(
        "2,500 live decisions compared, 1,203 differ, 1,200 of them in what is chosen; "
        f"estimated $5.50 for {routed} routed tasks where it is $20.00 for 1,000."
    )
    assert ("other tasks" in says) == few
