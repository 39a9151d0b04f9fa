"""`slotwise tasks`, `slots` and `wait` of a running installation."""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING, Any

from tests.functional.commands import until
from tests.functional.fleets import announce, comes_to, pend

if TYPE_CHECKING:
    from tests.functional.commands import Up


def listed(up: Up, *words: str) -> list[dict[str, Any]]:
    """Run a command that lists, and return its rows."""
    done = up.command(*words, "--json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_what_waits_and_runs_is_listed_until_it_has_ended(installation: Up) -> None:
    """By state, by owner; a slot with its task; and the end of a task as an exit code."""
    announce(installation, "listed", "haiku-1")
    pend(installation, "listed", "listed-1", title="Fix typo", labels={"owner": getpass.getuser()})
    comes_to(installation, "listed-1", "routed")
    pend(installation, "listed", "listed-2", labels={"owner": "another"})
    comes_to(installation, "listed-2", "waiting")
    pool = ("--pool", "listed")
    assert {one["task_id"] for one in listed(installation, "tasks", *pool)} == {"listed-1", "listed-2"}
    (runs,) = listed(installation, "tasks", *pool, "--running")
    assert (runs["task_id"], runs["slot_id"], runs["title"]) == ("listed-1", "haiku-1", "Fix typo")
    (waits,) = listed(installation, "tasks", *pool, "--waiting")
    assert (waits["task_id"], waits["headline"]) == ("listed-2", "capable_busy")
    assert listed(installation, "tasks", *pool, "--mine") == [runs]
    (slot,) = listed(installation, "slots", *pool)
    assert (slot["state"], slot["task_id"], slot["lease"]) == ("leased", "listed-1", 1)
    assert "running on haiku-1" in installation.command("tasks", *pool).stdout
    assert "haiku" in installation.command("slots", *pool).stdout

    late = installation.command("wait", "listed-1", *pool, "--timeout-s", "0.5")
    assert (late.returncode, "has not ended within 0.5 s: it is running on haiku-1" in late.stderr) == (1, True)
    assert installation.command("cancel", "listed-2", *pool).returncode == 0
    ended = installation.command("wait", "listed-2", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["ended"]) == (1, "cancelled")
    done = {"slot_id": "haiku-1", "pool": "listed", "model": "haiku", "lease": 1}
    done["outcome"] = {"task_id": "listed-1", "status": "success"}
    assert installation.command("send", "slot", "--now", stdin=json.dumps(done)).returncode == 0
    ended = installation.command("wait", "listed-1")
    assert (ended.returncode, ended.stdout.startswith("listed-1 in listed: done at ")) == (0, True), ended.stderr
    unknown = installation.command("wait", "listed-3", "--timeout-s", "0")
    assert (unknown.returncode, "No task listed-3 is known" in unknown.stderr) == (1, True)
    until(lambda: not listed(installation, "tasks", *pool), "an empty list")
