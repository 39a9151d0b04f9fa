"""`slotwise replay` under other rules: its table, its JSON, its HTML file, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas.steps import encode_step
from streams.core.policy.rulebook import load_rulebook
from streams.errors import MISTAKE
from streams.replay.recording import Recording
from streams.replay.sample_journal import sample_journal
from streams.replay.what_if import Question, WhatIf, what_if
from streams.sample.play import engines
from streams.sample.work import tasks
from streams.settings import Settings
from streams.shipped import shipped
from streams.web.pages.replay_report import replay_report
from tests.support.every_command import run, unplugged

POLICY = shipped("policy.toml")
CATALOG = shipped("catalog.toml")


@cache
def exported() -> bytes:
    """Give the lines of an export, made once."""
    steps = sample_journal(load_rulebook(CATALOG, POLICY), list(engines(Settings())), tasks("s", 100))
    return b"".join(b'{"offset":%d,"step":%b}\n' % (one.seq, encode_step(one)) for one in steps)


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with an export of a hundred tasks of the sample, and a policy that lifts from P70."""
    (tmp_path / "journal.jsonl").write_bytes(exported())
    (tmp_path / "p70.toml").write_text(POLICY.replace("ev_percentile = 0.90", "ev_percentile = 0.70"))
    monkeypatch.chdir(tmp_path)
    with unplugged(tmp_path):
        yield


def test_the_table_has_both_sides_and_says_how_sure_it_is() -> None:
    """From an export, without a broker."""
    done = run("replay", "--recording", "journal.jsonl", "--policy", "p70.toml")
    assert (done.code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("100 tasks from 2026-11-21T10:00:00.000Z to ")
    assert lines[1].split() == ["recorded", "replayed", "difference"]
    assert [line.split()[0] for line in lines[2:4]] == ["dollars", "dollars"]
    assert re.search(
        r"^\d+ of 100 tasks got another model \(.* by .*\); \d+ of them by the rules alone", done.stdout, re.MULTILINE
    )
    assert "Service times: fitted to 1" in done.stdout
    assert "No estimate: on " in done.stdout


def test_json_has_every_number() -> None:
    """A program reads the same answer."""
    done = run("replay", "--recording", "journal.jsonl", "--policy", "p70.toml", "--json")
    found = json.loads(done.stdout)
    assert found["tasks"] == 100
    assert set(found["recorded"]) == set(found["replayed"])
    assert len(found["changes"]) == found["changed"] == sum(found["rules"].values())
    assert found["times_error"]["parts"] == 5


def test_a_span_of_time_a_fleet_and_recorded_times() -> None:
    """Each option is in what is shown."""
    done = run(
        *("replay", "--recording", "journal.jsonl", "--from", "2026-11-21T10:00:30Z", "--to", "2026-11-21T10:01:00Z"),
        *("--fleet", "opus=2,haiku=8", "--times", "recorded", "--starved-after", "1"),
    )
    assert done.code == 0
    assert "with 2 opus, 8 haiku." in done.stdout
    assert "Attempts take and end as recorded" in done.stdout
    assert "Work that ran when the window began ends as recorded." in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--recording", "none.jsonl"), "none.jsonl is not there"),
        (("--recording", "journal.jsonl", "--from", "17"), "without --verify it is a time"),
        (
            ("--recording", "journal.jsonl", "--fleet", "opus"),
            "'opus' is no slots of a model: write it as opus=2,haiku=6",
        ),
        (("--recording", "journal.jsonl", "--fleet", "opus=0"), "has a fleet without a slot"),
        (("--recording", "journal.jsonl", "--fleet", "opus=1..2"), "it means several fleets"),
        (
            ("--recording", "journal.jsonl", "--send", "--fleet", "opus=1"),
            "--fleet of who decides: --listen.",
        ),
        (("--send", "--listen"), "are two commands: one sends, the other decides."),
        (("--recording", "journal.jsonl", "--fleet", "opsu=1"), "the catalogue has no opsu."),
        (("--recording", "journal.jsonl", "--times", "none"), "they are fitted or recorded."),
        (("--recording", "journal.jsonl", "--sample", "50"), "name a recording or take the sample, not both."),
        (
            ("--recording", "journal.jsonl", "--html", "none/report.html"),
            "cannot be written: No such file or directory.",
        ),
        (("--sample", "50", "--html", "fit.png"), "its pictures as SVG: name it fit.html."),
        (
            ("--recording", "journal.jsonl", "--from", "2026-11-22T00:00:00Z"),
            "No task was routed in this window (0 steps)",
        ),
        (("--recording", "journal.jsonl", "--resume", "x"), "--jobs, --resume and --stored are of --verify."),
        (("--verify", "--sample", "50"), "are of a replay without --verify."),
    ],
)
def test_what_cannot_be_replayed_is_said_in_a_sentence(words: tuple[str, ...], says: str) -> None:
    """With the exit code of a mistake."""
    done = run("replay", *words)
    assert done.code == MISTAKE
    assert says in " ".join(done.stderr.split())


def test_the_html_file_needs_nothing_else() -> None:
    """One file: its style and its pictures are in it, and no script and no address."""
    done = run("replay", "--recording", "journal.jsonl", "--policy", "p70.toml", "--html", "report.html")
    assert done.code == 0
    page = Path("report.html").read_text()
    assert page.count("<svg") == 3
    assert not re.search(r"<script|<link|src=|href=|https?://|url\((?!#)|@import", page)
    assert "recorded: " in page
    assert "lift" in page


def answer() -> WhatIf:
    """Give an answer about the sample."""
    rulebook = load_rulebook(CATALOG, POLICY)
    recording = Recording(0, rulebook)
    for step in sample_journal(rulebook, list(engines(Settings())), tasks("s", 60)):
        recording.add(step)
    return what_if([recording], Question(rulebook=rulebook, fleet={"haiku": 30, "opus": 1}))


def test_texts_of_producers_are_escaped_in_it() -> None:
    """A reason or an id may hold anything."""
    found = answer()
    odd = replace(found.changes[0], task_id="<b>t</b>", recorded_reason='<script>"x"</script>\u202e')
    page = replay_report(replace(found, changes=[odd], changed=1, rules={"<i>": 1}))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<b>t</b>" not in page
    assert "<i>" not in page
    assert "\u202e" not in page
