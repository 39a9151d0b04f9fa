"""The commands of docs/what-if.md print what the page says, and replay a running installation without a trace."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from streams.core.policy.rulebook import load_rulebook
from streams.kafka.client import Broker
from streams.operate.replay_topic import Listened, Listener, Window, send
from streams.partition.ports import Entry
from streams.replay.recorded_files import recorded_steps
from streams.replay.recording import Recording
from streams.replay.sample_journal import sample_journal
from streams.replay.what_if import Question, what_if
from streams.replay.work_model import WorkModel
from streams.sample.play import engines
from streams.sample.work import tasks
from streams.shipped import shipped
from streams.topics import create_replay_topics
from tests.functional.commands import DEADLINE_S, environment, slotwise, until
from tests.functional.fleets import announce, comes_to, pend, settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.settings import Settings
    from tests.functional.commands import Up

PAGE = (Path(__file__).parents[2] / "docs" / "what-if.md").read_text()
CATALOG = shipped("catalog.toml")
WALK = PAGE.partition("## A walk")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```(sh|text)\n(.*?)```", WALK, re.DOTALL)
COMMANDS = [text for kind, text in BLOCKS if kind == "sh"]
(PRINTED,) = (text for kind, text in BLOCKS if kind == "text")
SIMULATED = re.findall(r"```text\n\$ (slotwise simulate .*?[^\\])\n(.*?)```", PAGE, re.DOTALL)


def ran(script: str, folder: Path) -> str:
    """Run a block of the page in a folder; `slotwise` is this code's."""
    (folder / "slotwise").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m streams.cli "$@"\n')
    (folder / "slotwise").chmod(0o755)
    env = environment()
    env |= {"PATH": f"{folder}:{env['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run(
        [shell, "-ec", script], cwd=folder, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_walk_prints_its_figures(tmp_path: Path) -> None:
    """Every line of the page, in its order; … stands for lines that are left out."""
    found = [line.rstrip() for line in ran(COMMANDS[0], tmp_path).splitlines()]
    place = 0
    for line in (line for line in PRINTED.splitlines() if line != "…"):
        assert line in found[place:], "run the command of the page, and paste what it prints"
        place = found.index(line, place) + 1


def test_the_report_is_written(tmp_path: Path) -> None:
    """The page's second command, whose fleet lacks one premium slot."""
    said = ran(COMMANDS[1], tmp_path)
    assert "1 opus, 1 gpt-5" in said
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(("command", "printed"), SIMULATED, ids=["a sweep", "how many slots are enough"])
def test_a_simulation_prints_what_the_page_says(command: str, printed: str, tmp_path: Path) -> None:
    """To the last digit: the bundled work and the seeds are the same on every machine."""
    (tmp_path / "p70.toml").write_text("[lift]\nev_percentile = 0.70\n")
    found = [line.rstrip() for line in ran(command, tmp_path).splitlines()]
    assert found == printed.splitlines(), "run the command of the page, and paste what it prints"


@pytest.mark.parametrize(
    "option", ["--policy", "--catalog", "--fleet", "--from", "--to", "--recording", "--html", "--times"]
)
def test_help_has_every_option_of_the_page(option: str) -> None:
    """And the page has every option."""
    assert option in slotwise("replay", "--help").stdout
    assert option in PAGE


def test_the_journals_topic_is_replayed_and_nothing_is_written(installation: Up) -> None:
    """A task that was done is in the answer; no record is added to what producers and dispatchers share."""
    announce(installation, "what-if", "haiku-1", "opus-1")
    pend(installation, "what-if", "what-if-1", requires={"reasoning": 9}, ev=5.0)
    until(lambda: installation.command("explain", "what-if-1").returncode == 0, "the decision in Postgres")
    done = {
        "slot_id": "opus-1",
        "pool": "what-if",
        "lease": 1,
        "outcome": {"task_id": "what-if-1", "status": "success"},
    }
    assert installation.command("send", "slot", "--now", "-", stdin=json.dumps(done)).returncode == 0
    topics = ("task.pending", "slot.freed", "task.routed", "task.await_slot")

    def replayed() -> dict[str, Any] | None:
        asked = installation.command("replay", "--times", "recorded", "--json")
        found = json.loads(asked.stdout) if asked.returncode == 0 else None
        return found if found and found["recorded"]["done"] else None

    until(replayed, "the end of the task in the journal")
    before = ends(settings(installation), topics)
    found = replayed()
    assert found is not None
    assert found["recorded"]["models"]["opus"] >= 1
    assert found["changed"] == 0
    assert found["partitions"] >= 1
    assert ends(settings(installation), topics) == before


def test_ones_own_journal_is_simulated_from_a_file_of_the_sink_and_from_an_export(
    installation: Up, tmp_path: Path
) -> None:
    """Both hold the same work, so that they come to the same."""
    announce(installation, "own-work", "haiku-1")
    for number in (1, 2):
        task_id = f"own-{number}"
        pend(installation, "own-work", task_id)
        comes_to(installation, task_id, "routed")
        outcome = {"task_id": task_id, "status": "success", "latency_s": 2.0, "output_tokens": 100}
        done = {"slot_id": "haiku-1", "pool": "own-work", "lease": number, "outcome": outcome}
        assert installation.command("send", "slot", "--now", "-", stdin=json.dumps(done)).returncode == 0
    file, directory = tmp_path / "mine.jsonl", tmp_path / "mine"

    def exported() -> bool:
        shutil.rmtree(directory, ignore_errors=True)
        assert installation.command("journal", "export", str(directory)).returncode == 0
        return any(b'"task_id":"own-2"' in work for work in map(_work, recorded_steps(directory)))

    until(exported, "the end of the second task in the journal")
    wanted = {entry.value for entry in recorded_steps(directory)}
    words = [sys.executable, "-m", "streams.cli", "sink", "--to", str(file), "--data-dir", str(installation.directory)]
    with subprocess.Popen(words, env=environment(), stderr=subprocess.DEVNULL) as sink:
        until(lambda: file.exists() and wanted <= {one.value for one in recorded_steps(file)}, "the steps in the file")
        found = []
        for trace in (file, directory):
            asked = ("simulate", "--trace", str(trace), "--pool", "own-work", "--seeds", "1", "--rule", "slotwise")
            answer = slotwise(*asked, "--json")
            assert answer.returncode == 0, answer.stderr
            found.append(json.loads(answer.stdout))
        sink.terminate()
    assert [one["trace"] for one in found] == [str(file), str(directory)]
    assert found[0]["tasks_a_run"] == 2
    assert found[0]["rows"] == found[1]["rows"]


def _work(step: Entry) -> bytes:
    """The part of a step that says what work ended."""
    return step.value.partition(b'"work":[')[2]


@pytest.mark.parametrize("fleet", [None, {"opus": 1, "sonnet": 3, "haiku": 4}], ids=["its slots", "other slots"])
def test_a_window_that_is_sent_to_the_topic_comes_to_what_the_bounded_replay_says(
    installation: Up, fleet: dict[str, int] | None
) -> None:
    """The sample under lift from P70, decided beside the workers; only the two topics of a replay get records."""
    known = settings(installation)
    policy = shipped("policy.toml")
    rulebook = load_rulebook(CATALOG, policy)
    other = load_rulebook(CATALOG, policy.replace("ev_percentile = 0.90", "ev_percentile = 0.70"))
    recording = Recording(0, rulebook)
    for step in sample_journal(rulebook, list(engines(known)), tasks("s", 120)):
        recording.add(step)
    bounded = what_if([recording], Question(rulebook=other, fleet=fleet))
    others = ("task.pending", "slot.freed", "task.routed", "task.await_slot")
    before = ends(known, others)
    create_replay_topics(known)
    own = ("routing.replay", "decision.replay")
    first = {topic: sum(ends(known, [topic])[topic]) for topic in own}

    async def both() -> Listened:
        work = WorkModel([one.seen for one in recording.ended], "fitted", same_prices=True)
        listener = Listener(known, other, work, run="test-run", fleet=fleet)
        listens = asyncio.Event()
        listening = asyncio.create_task(listener.listen(ready=listens.set))
        await listens.wait()
        assert await send(known, [Window.of(recording)], run="test", speed=1e6) == 120 + 20
        return await listening

    found = asyncio.run(both())
    assert (found.records, found.refused) == (140, 0)
    assert found.policy == other.policy_hash
    assert found.side == bounded.replayed
    assert found.side != bounded.recorded
    assert ends(known, others) == before
    after = {topic: sum(ends(known, [topic])[topic]) for topic in own}
    assert after["routing.replay"] - first["routing.replay"] == 140 + known.partitions
    assert after["decision.replay"] - first["decision.replay"] > 120


def ends(known: Settings, topics: Sequence[str]) -> dict[str, list[int]]:
    """Give the end of each partition of some topics."""

    async def ask() -> dict[str, list[int]]:
        async with Broker(known) as broker:
            return {
                topic: [(await broker.bounds(known.topic_prefix + topic, n))[1] for n in range(known.partitions)]
                for topic in topics
            }

    return asyncio.run(ask())
