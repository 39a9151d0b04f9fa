"""`slotwise replay --events`: bare events are decided about twice, by the configured rules and by those named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from schemas.decision import Step
from schemas.vocabulary import from_millis
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.errors import MISTAKE
from streams.replay.event_lines import Events, read_events
from streams.replay.played import CatalogWork, basis_of, played, recording_of
from streams.replay.sample_journal import BEGIN_MS, sample_journal
from streams.replay.what_if import Question, WhatIf, what_if
from streams.sample.fleet import Fleet
from streams.sample.play import engines
from streams.sample.work import tasks
from streams.settings import Settings
from streams.shipped import shipped
from tests.support.every_command import run, unplugged

POLICY = shipped("policy.toml")
CATALOG = shipped("catalog.toml")
COUNT = 120


def book(lift: float = 0.90) -> Rulebook:
    """Give the shipped rules with lift from another percentile."""
    return load_rulebook(CATALOG, POLICY.replace("ev_percentile = 0.90", f"ev_percentile = {lift}"))


@cache
def task_lines() -> bytes:
    """Give the tasks of the sample, as `slotwise send task` takes them."""
    rows = [replace(one.event, at=from_millis(BEGIN_MS + round(1000 * one.at_s))) for one in tasks("s", COUNT)]
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


@cache
def slot_lines() -> bytes:
    """Give its slots, as `slotwise send slot` takes them."""
    made = Fleet(list(engines(Settings())), tasks("s", COUNT))
    return b"".join(msgspec.json.encode(row) + b"\n" for row in made.announcements(BEGIN_MS))


@cache
def report_lines() -> bytes:
    """Give the reports with which the sample's slots ended their work, as recorded under the shipped rules."""
    begun: dict[str, int] = {}
    rows = []
    for step in sample_journal(book(), list(engines(Settings())), tasks("s", COUNT)):
        for work in step.work:
            taken_s = (step.now_ms - begun[work.decision_id]) / 1000
            rows.append(
                {
                    "slot_id": work.slot_id,
                    "pool": work.pool,
                    "at": from_millis(step.now_ms),
                    "lease": work.lease,
                    "outcome": msgspec.to_builtins(work.outcome) | {"latency_s": taken_s},
                }
            )
        begun.update((one.decision_id, step.now_ms) for one in step.decisions if one.outcome == "routed")
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def sample(*, reports: bool = False) -> Events:
    """Give the sample's events, with or without how its work ended."""
    lines = task_lines() + slot_lines() + (report_lines() if reports else b"")
    return read_events({"sample.jsonl": lines.splitlines()})


def asked(events: Events, rules: Rulebook, fleet: dict[str, int] | None = None) -> WhatIf:
    """Ask what events come to under other rules than the shipped ones."""
    recording = recording_of(events, book(), fleet, from_ms=0, to_ms=2**53)
    return what_if([recording], Question(rulebook=rules, fleet=fleet), basis=basis_of(events, book(), rules))


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with the sample's events in files, and a policy that lifts from P70."""
    (tmp_path / "tasks.jsonl").write_bytes(task_lines())
    (tmp_path / "slots.jsonl").write_bytes(slot_lines())
    (tmp_path / "p70.toml").write_text(POLICY.replace("ev_percentile = 0.90", "ev_percentile = 0.70"))
    monkeypatch.chdir(tmp_path)
    with unplugged(tmp_path):
        yield


@pytest.mark.parametrize("reports", [False, True], ids=["by the catalogue's speeds", "by outcomes"])
def test_under_the_configured_rules_both_sides_are_the_same(reports: bool) -> None:
    """To the last dollar, whichever way the ends of work are made."""
    found = asked(sample(reports=reports), book())
    assert found.recorded == found.replayed
    assert (found.tasks, found.changed) == (COUNT, 0)
    assert found.recorded.done + found.recorded.failed == found.recorded.routed >= COUNT
    assert found.times == ("fitted" if reports else "catalogue")
    assert (found.times_error is not None) == reports
    assert found.estimates is None
    assert found.no_estimates == "No estimate: the events have no choices that were really made."


def test_by_outcomes_the_configured_rules_make_the_journal_that_was_recorded() -> None:
    """The events are what a journal says came from without, and work takes what its slots said."""
    events = sample(reports=True)
    work = basis_of(events, book(), book()).work
    chosen = [choices(played(events.occurrences, book(), work))]
    chosen.append(choices(sample_journal(book(), list(engines(Settings())), tasks("s", COUNT))))
    assert chosen[0] == chosen[1]


def choices(steps: Iterator[Step]) -> list[tuple[str, int, str | None, int]]:
    """Give what was chosen, and when."""
    return [
        (one.task_id, one.attempt, one.chosen_slot_id, one.decided_at_ms)
        for step in steps
        for one in step.decisions
        if one.outcome == "routed"
    ]


def test_work_without_outcomes_takes_as_long_as_its_answer_at_the_catalogues_speed() -> None:
    """Not less and not more, and none fails."""
    events = sample()
    steps = list(played(events.occurrences, book(), CatalogWork(book())))
    begun = {one.decision_id: one for step in steps for one in step.decisions if one.outcome == "routed"}
    ended = [(begun[work.decision_id], step.now_ms, work) for step in steps for work in step.work]
    assert len(ended) == COUNT
    events_by_id = {one.event.task_id: one.event for one in tasks("s", COUNT)}
    for decision, now_ms, work in ended:
        model = book().models[decision.chosen_model or ""]
        assert model.speed_tps is not None
        tokens = book().output_tokens(events_by_id[decision.task_id], decision.complexity, model)
        assert now_ms - decision.decided_at_ms == max(1, round(1000 * tokens / model.speed_tps))
        assert (work.outcome.status, work.outcome.output_tokens) == ("success", tokens)


def test_other_rules_change_choices_and_the_answer_says_what_it_takes_for_granted() -> None:
    """The command, its table and its sentences."""
    done = run("replay", "--events", "tasks.jsonl", "--events", "slots.jsonl", "--policy", "p70.toml")
    assert (done.code, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert f"of {COUNT} tasks got another model" in said
    assert "by lift" in said
    assert "recorded is what the configured rules make of them" in said
    assert "0 outcomes say how long their work took (latency_s), and 20 are the least" in said


def test_events_without_slots_need_a_fleet() -> None:
    """With one, both sides have it; without, the sentence says what to add."""
    refused = run("replay", "--events", "tasks.jsonl")
    assert refused.code == MISTAKE
    assert "No line announces a slot" in refused.stderr
    done = run("replay", "--events", "tasks.jsonl", "--fleet", "opus=2,sonnet=4,haiku=4", "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["recorded"] == found["replayed"]
    assert set(found["recorded"]["models"]) == {"opus", "sonnet", "haiku"}
    assert found["times"] == "catalogue"


def test_a_fleet_takes_the_place_of_the_slots_that_come() -> None:
    """On the replayed side."""
    found = asked(sample(), book(), {"opus": 1, "haiku": 2})
    assert set(found.replayed.models) <= {"opus", "haiku"} < set(found.recorded.models)


def test_compressed_files_are_read_as_plain_ones(tmp_path: Path) -> None:
    """As exports of the journal have them."""
    (tmp_path / "tasks.jsonl.gz").write_bytes(gzip.compress(task_lines()))
    words = ("replay", "--fleet", "opus=2,haiku=4", "--json", "--events")
    assert run(*words, "tasks.jsonl.gz").stdout == run(*words, "tasks.jsonl").stdout


def test_events_are_sent_to_the_topic_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a journal, and at the chosen speed."""
    asked: list[tuple[list[Any], float]] = []

    async def send(_settings: Settings, windows: list[Any], *, speed: float, **_: object) -> int:
        asked.append((windows, speed))
        return sum(len(one.occurrences) for one in windows)

    monkeypatch.setattr("streams.operate.replay_topic.send", send)
    done = run("replay", "--send", "--events", "tasks.jsonl", "--events", "slots.jsonl", "--speed", "60")
    assert (done.code, done.stderr) == (0, "")
    assert f"{COUNT + 20} records were sent to routing.replay" in done.stdout
    (((window,), speed),) = asked
    times = [one.at_ms for one in window.occurrences]
    assert times == sorted(times)
    assert (window.end_ms, speed) == (times[-1], 60.0)


def test_files_that_are_no_events_are_refused_line_by_line(tmp_path: Path) -> None:
    """With their names; a file that is not there, too, and other sources beside it."""
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(task_lines())[:-100])
    (tmp_path / "bad.jsonl").write_text('{"task_id":"t-1","pool":"main"}\n{"task_id":"t 2","pool":"main"}\nno\n')
    done = run("replay", "--events", "bad.jsonl", "--fleet", "opus=1")
    assert done.code == MISTAKE
    said = " ".join(done.stderr.split())
    assert said.index("bad.jsonl line 2: field task_id") < said.index("bad.jsonl line 3: value: is not JSON")
    for words, says in (
        (["--events", "cut.jsonl.gz", "--fleet", "opus=1"], "cut.jsonl.gz cannot be read: Compressed file ended"),
        (["--events", "none.jsonl"], "none.jsonl cannot be read: No such file or directory."),
        (["--events", "tasks.jsonl", "--sample", "50"], "are of other work."),
        (["--events", "tasks.jsonl", "--fleet", "opus=1", "--times", "recorded"], "no recorded times of choices"),
        (["--events", "tasks.jsonl", "--listen"], "sent them by --send --events."),
        (["--events", "tasks.jsonl", "--verify"], "are of a replay without --verify."),
        (["--events", "tasks.jsonl", "--send", "--from", "1h"], "sent whole"),
    ):
        refused = run("replay", *words)
        assert refused.code == MISTAKE, words
        assert says in " ".join(refused.stderr.replace("│", " ").split())
