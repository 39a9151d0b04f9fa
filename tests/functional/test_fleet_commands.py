"""`slotwise check` and `recommend` show the state and where a task would go, with or without a worker."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.functional.commands import Up, slotwise, until
from tests.functional.fleets import announce, comes_to, order, pend, pool_of

if TYPE_CHECKING:
    from pathlib import Path


def test_check_is_well_until_something_is_refused(operated: Up) -> None:
    """The exit code says so, and the sentence says what."""
    announce(operated, "sight", "haiku-1", "opus-1", account="acct-1")
    pend(operated, "sight", "sight-1")
    comes_to(operated, "sight-1", "routed")
    well = operated.command("check", "--pool", "sight")
    assert well.returncode == 0, well.stderr
    assert "sight (partition" in well.stdout
    assert "0 waiting, 1 running" in well.stdout
    order(operated, "drain", "opus", "--pool", "sight")
    order(operated, "quota", "set", "--product", "claude", "--window", "5h", "--utilisation", "0.83", "--pool", "sight")
    order(operated, "credit", "acme", "10", "--pool", "sight")
    refused = operated.command("check", "--pool", "sight")
    assert refused.returncode == 1
    assert "sight: opus of acct-1 gets nothing new: opus is drained." in refused.stderr
    assert "quota claude, 5h: 83%" in refused.stdout
    assert "budget acme: $10.00 available" in refused.stdout
    result = json.loads(operated.command("check", "--pool", "sight", "--json").stdout)
    (pool,) = result["pools"]
    assert {model["model"]: model["drained"] for model in pool["models"]} == {"opus": True, "haiku": False}
    assert result["partitions"][0]["policy"]


def test_check_and_explain_say_that_the_audit_is_behind(data_dir: Path) -> None:
    """A sink that does not write, and a database that does not answer, are no "All well."."""
    with Up(data_dir) as up:
        assert up.command("check").stdout.endswith("1 worker.\nThe audit has every step of the journal.\nAll well.\n")
        announce(up, "main", "haiku-1")
        until(lambda: up.command("check", "--pool", "main").returncode == 0, "the slot, also in the audit")
        sink = up.at.pids["sink"]
        os.kill(sink, signal.SIGSTOP)
        pend(up, "main", "t-1")
        until(lambda: pool_of(up, "main").tasks.running, "the decision")
        behind = up.command("check")
        assert behind.returncode == 1
        assert "Needs a person:\n" in behind.stderr
        assert "  The audit is 1 step behind the journal (1 in partition" in behind.stderr
        assert "The audit is 1 step behind the journal" in up.command("explain", "t-1").stderr
        assert up.command("check", "--no-audit").stdout.endswith("All well.\n")
        away = up.command("check", "--database", "postgresql://127.0.0.1:9/audit", "--json")
        assert away.returncode == 1
        (found,) = json.loads(away.stdout)["attention"]
        assert found["says"].startswith("The audit does not answer: Postgres at 127.0.0.1:9")
        assert found["needs_person"]
        os.kill(sink, signal.SIGCONT)
        until(lambda: up.command("check").returncode == 0, "the sink")


def test_check_looks_at_every_pool(operated: Up) -> None:
    """All partitions are read, whether or not anything ever happened there."""
    announce(operated, "one-of-all", "haiku-1")
    result = json.loads(operated.command("check", "--json").stdout)
    assert len(result["partitions"]) == 8
    assert "one-of-all" in {pool["pool"] for pool in result["pools"]}


def test_a_recommendation_is_what_is_then_decided(operated: Up) -> None:
    """It is the very router, and asking leaves nothing behind."""
    announce(operated, "asked", "haiku-1", "sonnet-1", "opus-1")
    words = ("recommend", "--pool", "asked", "--requires", "coding=7", "--task-type", "debug")
    result = json.loads(operated.command(*words, "--json").stdout)
    assert (result["outcome"], result["model"], result["slot_id"]) == ("routed", "sonnet", "sonnet-1")
    assert result["alternatives"]["haiku"]["gate"] == "capability"
    people = operated.command(*words)
    assert people.stdout.startswith(f"sonnet (sonnet-1): {result['reason']}")
    pend(operated, "asked", "asked-1", requires={"coding": 7}, task_type="debug")
    assert comes_to(operated, "asked-1", "routed")["reason"] == result["reason"]


def test_a_recommendation_that_it_would_wait_says_why(operated: Up) -> None:
    """The exit code is 1, as nothing would be done now."""
    announce(operated, "weak", "haiku-1")
    result = operated.command("recommend", "--pool", "weak", "--requires", "coding=9")
    assert result.returncode == 1
    assert result.stdout.startswith("It would be waiting (no_capable_model")


@pytest.mark.parametrize(
    ("words", "want"),
    [
        pytest.param(("--offline", "--requires", "codign=8"), "Did you mean coding?", id="a rating spelled wrong"),
        pytest.param(("--offline", "--complexity", "hard"), "complexity", id="a class that is none"),
        pytest.param(("--offline", "--floor-model", "opsu"), "Did you mean opus?", id="a model spelled wrong"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(words: tuple[str, ...], want: str) -> None:
    """In one sentence, with exit code 2."""
    result = slotwise("recommend", *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert want in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_a_broker_the_catalogue_s_models_are_asked() -> None:
    """One free slot of each, to try a policy on."""
    result = slotwise("recommend", "--offline", "--task-type", "debug", "--strategy", "preference", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["model"] == "codex"


def test_a_pool_without_slots_is_reported(operated: Up) -> None:
    """There is no slot to recommend."""
    result = operated.command("recommend", "--pool", "unknown")
    assert result.returncode == 2
    assert "Pool unknown has no slots." in result.stderr
