"""`slotwise dispatch` on a running installation: tasks are run, stopped, drained, and done once whatever is killed."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.commands import DEADLINE_S, runs, slotwise, until
from tests.functional.dispatching import Dispatching, finished

if TYPE_CHECKING:
    from tests.functional.commands import Up


def send(up: Up, pool: str, *tasks: dict[str, Any]) -> list[str]:
    """Send tasks of a pool, and give their ids."""
    lines = "\n".join(json.dumps({"pool": pool, **task}) for task in tasks)
    sent = up.command("send", "task", "--now", "-", stdin=lines)
    assert sent.returncode == 0, sent.stderr
    return [task["task_id"] for task in tasks]


def pid_in(path: Path) -> int:
    """Read the process id that a script wrote."""
    until(lambda: path.exists() and path.read_text().strip(), f"{path.name} is written")
    return int(path.read_text())


def test_tasks_are_run_and_their_producers_read_how_they_ended(installation: Up, tmp_path: Path) -> None:
    """A fleet.toml with two slots: results, failures and their reason; logs are where the events say."""
    (tmp_path / "fleet.toml").write_text(
        'pool = "d-run"\nexec = """case $TASK_ID in *bad) exit 3;; esac\n'
        'echo $LEVEL; echo \'{"quality":0.75,"cost_usd":0.5}\' >&3"""\nenvironment = { LEVEL = "high" }\n'
        '[[slot]]\nid = "h"\nmodel = "haiku"\nconcurrency = 2\n'
    )
    with Dispatching(installation, tmp_path, "fleet.toml") as dispatcher:
        good = [{"task_id": f"d-run-{number}", "title": "Fix typo"} for number in range(3)]
        ids = send(installation, "d-run", *good, {"task_id": "d-run-bad", "on_failure": "drop"})
        ends = finished(installation, ids)
        assert [ends[one]["status"] for one in ids] == ["success", "success", "success", "dropped"]
        assert (ends[ids[0]]["quality"], ends[ids[0]]["cost_usd"]) == (0.75, 0.5)
        assert dispatcher.wait_for("reported", "d-run-bad")["error_class"] == "exit_3"
        assert "high" in Path(dispatcher.wait_for("ended", ids[0])["log"]).read_text().splitlines()
        assert {one["slot_id"] for one in dispatcher.events("announced")} == {"h-1", "h-2"}


def test_a_cancelled_task_is_stopped_and_its_slot_goes_on(installation: Up, tmp_path: Path) -> None:
    """The command ends with all that it started; what it used is charged; the next task runs."""
    line = """if [ $TASK_ID = d-cancel-2 ]; then exit 0; fi
trap 'echo "{\\"cost_usd\\":0.25}" >&3; exit 1' TERM; sleep 1000 & echo $! > pid; wait"""
    with Dispatching(installation, tmp_path, "--pool", "d-cancel", "--slot", "h=haiku", "--exec", line) as dispatcher:
        ids = send(installation, "d-cancel", {"task_id": "d-cancel-1"}, {"task_id": "d-cancel-2"})
        child = pid_in(tmp_path / "pid")
        ordered = installation.command("cancel", "d-cancel-1", "--pool", "d-cancel")
        assert ordered.returncode == 0, ordered.stderr
        ends = finished(installation, ids)
        assert [ends[one]["status"] for one in ids] == ["cancelled", "success"]
        assert ends["d-cancel-1"]["cost_usd"] == 0.25
        assert dispatcher.wait_for("stopping", "d-cancel-1")["reason"] == "cancelled"
        assert not runs(child)


def test_work_that_takes_longer_than_its_lease_keeps_it(installation: Up, tmp_path: Path) -> None:
    """Six seconds of lease, and a command that ends when twice as much has passed: one attempt, no loss."""
    line = "while [ ! -e go ]; do sleep 0.05; done"
    with Dispatching(installation, tmp_path, "--pool", "d-long", "--slot", "h=haiku", "--exec", line) as dispatcher:
        ids = send(installation, "d-long", {"task_id": "d-long-1", "lease_s": 6})
        began_s = datetime.fromisoformat(dispatcher.wait_for("begun", "d-long-1")["at"]).timestamp()
        until(lambda: time.time() > began_s + 12.5, "more than two leases have passed")
        (tmp_path / "go").touch()
        end = finished(installation, ids)["d-long-1"]
        assert (end["status"], end["attempts"]) == ("success", 1)
        assert not dispatcher.events("stopping")


def test_a_dispatcher_that_is_asked_to_stop_ends_with_what_runs(installation: Up, tmp_path: Path) -> None:
    """SIGTERM: what runs ends by itself and is reported, a waiting task is not begun, exit code 0."""
    line = "while [ ! -e go ]; do sleep 0.05; done"
    with Dispatching(installation, tmp_path, "--pool", "d-drain", "--slot", "h=haiku", "--exec", line) as dispatcher:
        send(installation, "d-drain", {"task_id": "d-drain-1"})
        dispatcher.wait_for("begun", "d-drain-1")
        dispatcher.process.send_signal(signal.SIGTERM)
        dispatcher.wait_for("draining")
        send(installation, "d-drain", {"task_id": "d-drain-2"})
        (tmp_path / "go").touch()
        assert finished(installation, ["d-drain-1"])["d-drain-1"]["status"] == "success"
        assert dispatcher.process.wait(DEADLINE_S) == 0
        assert [one["task_id"] for one in dispatcher.events("begun")] == ["d-drain-1"]
        assert dispatcher.events("left")


def test_a_second_signal_ends_what_runs(installation: Up, tmp_path: Path) -> None:
    """KILL at once, whatever the command does about TERM; its task is tried again by the next dispatcher."""
    line = "[ -e go ] && exit 0; trap '' TERM; echo $$ > pid; while :; do sleep 1; done"
    words = ("--pool", "d-kill", "--slot", "h=haiku", "--grace", "3600", "--exec", line)
    with Dispatching(installation, tmp_path, *words) as dispatcher:
        ids = send(installation, "d-kill", {"task_id": "d-kill-1"})
        command = pid_in(tmp_path / "pid")
        dispatcher.process.send_signal(signal.SIGTERM)
        dispatcher.wait_for("draining")
        assert dispatcher.end() == 0
        assert not runs(command)
        assert dispatcher.wait_for("reported", "d-kill-1")["error_class"] == "dispatcher_stopped"
    (tmp_path / "go").touch()
    with Dispatching(installation, tmp_path, *words):
        end = finished(installation, ids)["d-kill-1"]
        assert (end["status"], end["attempts"]) == ("success", 2)


def test_after_kill_9_every_task_is_done_once(installation: Up, tmp_path: Path) -> None:
    """The commands of the dead dispatcher end; the next one waits for that, announces, and each task has one end."""
    line = "echo $$ >> pids; while [ ! -e go ]; do sleep 0.05; done"
    words = ("--pool", "d-crash", "--slot", "a=haiku", "--slot", "b=haiku", "--grace", "1", "--exec", line)
    with Dispatching(installation, tmp_path, *words) as dispatcher:
        ids = send(installation, "d-crash", *({"task_id": f"d-crash-{number}"} for number in range(4)))
        dispatcher.wait_for("begun", count=2)
        pids = tmp_path / "pids"
        until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "both commands run")
        orphans = [int(pid) for pid in pids.read_text().split()]
        dispatcher.end(signal.SIGKILL)
    with Dispatching(installation, tmp_path, *words) as dispatcher:
        dispatcher.wait_for("begun", count=4)
        assert not any(map(runs, orphans))
        (tmp_path / "go").touch()
        ends = finished(installation, ids)
        assert {end["status"] for end in ends.values()} == {"success"}
        assert sorted(end["attempts"] for end in ends.values()) == [1, 1, 2, 2]


def test_a_slot_has_one_dispatcher(installation: Up, tmp_path: Path) -> None:
    """The second one on the same data directory is refused, and says which slot."""
    words = ("--pool", "d-twice", "--slot", "h=haiku", "--exec", "true")
    with Dispatching(installation, tmp_path, *words) as dispatcher:
        dispatcher.wait_for("announced")
        refused = installation.command("dispatch", *words)
        assert refused.returncode == 3
        assert "Another dispatcher serves slot h" in refused.stderr


@pytest.mark.parametrize(
    ("words", "want"),
    [
        (("--slot", "h=haikoo", "--exec", "true"), "slot h: model haikoo is not in the catalogue. Did you mean haiku?"),
        (("--slot", "h", "--exec", "true"), "--slot h is not ID=MODEL"),
        (
            (
                "--slot",
                "h=haiku",
            ),
            "slot h: it has nothing to run",
        ),
        (("no-such.toml",), "no-such.toml cannot be read: No such file or directory."),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_announced(
    installation: Up, words: tuple[str, ...], want: str
) -> None:
    """Exit code 2."""
    refused = installation.command("dispatch", *words)
    assert refused.returncode == 2
    assert want in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_without_a_broker_it_says_so(tmp_path: Path) -> None:
    """Exit code 3, and where it looked."""
    refused = slotwise(
        *("dispatch", "--slot", "h=haiku", "--exec", "true"),
        *("--broker", "127.0.0.1:1", "--data-dir", str(tmp_path)),
    )
    assert refused.returncode == 3
    assert "127.0.0.1:1" in refused.stderr
