"""`slotwise explain` and `tables show`: decisions are read from Postgres, tables from the worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.functional.commands import until

if TYPE_CHECKING:
    from tests.functional.commands import Up


@pytest.mark.rule("record.explain")
def test_a_typo_fix_is_explained_with_every_model_of_the_fleet(installation: Up) -> None:
    """The table names the slot, the reason, and why each other model did not get the task."""
    slots = "\n".join(
        f'{{"slot_id":"explain-{model}","pool":"explain","model":"{model}"}}' for model in ("opus", "haiku", "glm")
    )
    assert installation.command("send", "slot", "--now", "-", stdin=slots).returncode == 0
    task = '{"task_id":"explain-1","pool":"explain","title":"Fix typo in README","requires":{"coding":4},"ev":3.2}'
    assert installation.command("send", "task", "--now", "-", stdin=task).returncode == 0
    until(lambda: installation.command("explain", "explain-1").returncode == 0, "the decision in Postgres")

    shown = installation.command("explain", "explain-1").stdout
    for part in ("explain-haiku", "routed", "opus", "glm", "capability", "chosen"):
        assert part in shown

    (result,) = json.loads(installation.command("explain", "explain-1", "--json").stdout)
    assert (result["outcome"], result["chosen_slot_id"], result["tier"]) == ("routed", "explain-haiku", 1)
    verdicts = {one["model"]: one["gate"] for one in result["alternatives"]}
    assert verdicts["haiku"] == "chosen"
    assert verdicts["glm"] == "capability"
    assert set(verdicts) == {"opus", "haiku", "glm"}
    assert result["asked"] == {"requires": {"coding": 4}}

    answer = installation.command("explain", "explain-1", "--why-not", "glm").stdout
    assert "glm: capability" in answer
    assert "coding 3 < 4" in answer
    found = json.loads(installation.command("explain", "explain-1", "--why-not", "glm", "--json").stdout)
    assert (found["gate"], found["notes"]) == ("capability", [])
    assert "requires.coding to 3 (now 4)" in found["flip"]
    slip = installation.command("explain", "explain-1", "--why-not", "opuss")
    assert slip.returncode == 1
    assert "Did you mean opus?" in slip.stdout


def test_the_days_of_the_audit_are_kept(installation: Up) -> None:
    """A day further ahead than the migration went has something to do once, and then no more."""
    made = installation.command("db", "maintain", "--days-ahead", "15", "--keep-days", "400", "--json")
    assert len(json.loads(made.stdout)["done"]) == 1
    assert installation.command("db", "maintain", "--days-ahead", "15").stdout == "There was nothing to do.\n"


def test_a_task_that_was_not_sent_is_reported_as_unknown(installation: Up) -> None:
    """No decision is an answer too, and no success."""
    found = installation.command("explain", "never-sent")
    assert found.returncode == 1
    assert found.stderr == "The audit has no decision about never-sent: it was never sent, or is not decided yet.\n"
    assert installation.command("explain", "never-sent", "--json").stdout.strip() == "[]"


def test_the_worker_shows_what_its_tables_hold(installation: Up) -> None:
    """The percentiles of a pool appear in its worker's table once there are samples."""
    tasks = "\n".join(f'{{"task_id":"tables-{n}","pool":"tables","ev":{n}}}' for n in range(8))
    assert installation.command("send", "task", "--now", "-", stdin=tasks).returncode == 0

    def shown() -> bool:
        return "tables" in installation.command("tables", "show", "ev_percentiles").stdout

    until(shown, "the pool in the table")
    assert json.loads(installation.command("tables", "show", "ev_percentiles", "--json").stdout)
