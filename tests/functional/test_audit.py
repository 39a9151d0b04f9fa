"""`slotwise audit` of a running installation: nothing is wrong, and a row that was taken away is noticed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg

from tests.functional.commands import slotwise, until

if TYPE_CHECKING:
    from tests.functional.commands import Up


def test_an_installation_is_sound_until_a_decision_is_taken_away(own_installation: Up) -> None:
    """The report names the step whose decision a superuser has deleted."""
    up = own_installation
    slot = '{"slot_id":"audit-1","pool":"audit","model":"haiku"}'
    assert up.command("send", "slot", "--now", "-", stdin=slot).returncode == 0
    tasks = "\n".join(f'{{"task_id":"audit-{number}","pool":"audit","requires":{{"coding":4}}}}' for number in (1, 2))
    assert up.command("send", "task", "--now", "-", stdin=tasks).returncode == 0
    until(lambda: up.command("explain", "audit-2").returncode == 0, "the decisions in Postgres")

    sound = up.command("audit", "--rederive")
    assert sound.returncode == 0, sound.stdout
    assert "Nothing is wrong" in sound.stdout

    with psycopg.connect(up.at.database, autocommit=True) as database:
        deleted = database.execute(
            "DELETE FROM model_routing_decisions WHERE task_id = 'audit-1' RETURNING partition, seq"
        ).fetchall()
    damaged = up.command("audit", "--json")
    assert damaged.returncode == 1
    problems = json.loads(damaged.stdout)["problems"]
    assert [(one["promise"], one["partition"], one["seq"]) for one in problems] == [("stored", *deleted[0])]
    assert "decisions" in up.command("audit").stdout


def test_a_database_that_does_not_answer_is_no_verdict(installation: Up) -> None:
    """Exit code 3: nothing was found out."""
    words = ("--broker", installation.at.broker, "--database", "postgresql://127.0.0.1:9/x")
    found = slotwise("audit", *words)
    assert (found.returncode, found.stdout) == (3, "")
    assert "cannot be reached" in found.stderr
