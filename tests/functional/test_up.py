"""`slotwise up`: one command starts everything, one key ends everything, and what dies in between comes back."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import urllib.request
from pathlib import Path

import psycopg
import pytest

from streams.local.kafka import fetch_kafka_jars, find_java
from streams.local.process import MissingPart
from tests.functional.commands import DEADLINE_S, Up, runs, slotwise, until
from tests.functional.dispatching import Dispatching, finished
from tests.support.optional_parts import skip_without

TASK = '{"task_id":"%s","pool":"main","title":"Fix typo in README","requires":{"coding":4}}'


def decided(up: Up, task_id: str) -> list[dict[str, object]]:
    """Ask the audit of an installation what was decided about a task."""
    found: list[dict[str, object]] = json.loads(up.command("explain", task_id, "--json").stdout)
    return found


def send(up: Up, task_id: str, pool: str = "main") -> None:
    """Send one task."""
    sent = up.command("send", "task", "--now", "-", stdin=TASK.replace('"main"', f'"{pool}"') % task_id)
    assert sent.returncode == 0, sent.stderr


def test_a_bounded_run_of_the_sample_ends_with_numbers_that_agree(data_dir: Path) -> None:
    """Inputs, steps, decisions, audit rows, published records and dead letters agree."""
    ran = slotwise(
        "up", "--sample", "--tasks", "200", "--until-idle", "--json", "--data-dir", str(data_dir), "--timeout-s", "180"
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["agree"], result["disagreements"]
    assert result["inputs"]["task.pending"] == result["inputs_handled"]["task.pending"] == 200
    assert result["audit_rows"] == result["decisions_total"] > 0
    assert result["audit_steps"] == result["steps"] > 0
    assert result["published"]["task.routed"] >= result["decisions"]["routed"] >= 200
    assert result["dead_letters"]["topics"] >= result["dead_letters"]["journal"]
    assert result["work"]["success"] + result["dead_letters"]["journal"] == 200
    assert result["tasks"]["waiting"] == result["tasks"]["running"] == 0
    assert set(result["tiers"]) == {"1", "2", "3"}
    assert result["waits"]["p50_s"] <= result["waits"]["p95_s"] <= result["waits"]["max_s"]
    assert not (data_dir / "up.json").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_process_in_good_order(data_dir: Path, how: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end all parts, remove up.json, and are no failure."""
    with Up(data_dir) as up:
        pids = up.at.pids
        assert set(pids) == {"up", "broker", "database", "sink", "web", "worker"}
        jobs = {one["labels"]["job"]: one["targets"][0] for one in json.loads((data_dir / "targets.json").read_text())}
        for job, metric in (
            ("slotwise-worker", "router_partitions"),
            ("slotwise-sink", "slotwise_sink_trouble_seconds"),
        ):
            with urllib.request.urlopen(f"http://{jobs[job]}/metrics", timeout=10) as answer:
                assert metric in answer.read().decode(), "its alert does not fire"
        assert all(map(runs, pids.values()))
        up.process.send_signal(how)
        assert up.process.wait(DEADLINE_S) == 0, up.output.read_text()
    assert not any(map(runs, pids.values()))
    assert not (data_dir / "up.json").exists()


def test_the_end_waits_until_all_that_was_sent_is_in_the_audit(data_dir: Path) -> None:
    """Stopped right behind 300 tasks and an order, each is decided and in the audit, and nothing is missing."""
    tasks = "\n".join(TASK % f"late-{number}" for number in range(300))
    with Up(data_dir, "--json") as up:
        assert up.command("send", "task", "--now", "-", stdin=tasks).returncode == 0
        assert up.command("drain", "opus", "--no-wait").returncode == 0
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(DEADLINE_S) == 0, up.output.read_text()
        result = json.loads("{" + up.output.read_text().partition("\n{")[2].rpartition("}")[0] + "}")
    assert result["remains"] == {"audit_lacks": [], "undecided": {}, "named": [], "durable": False}
    assert result["inputs_handled"]["task.pending"] == 300
    assert result["inputs_handled"]["fleet.control"] >= 8
    assert result["audit_steps"] == result["steps"] > 0
    assert result["audit_rows"] == result["decisions_total"] == 300


def test_what_the_audit_lacks_and_what_was_never_decided_is_said(data_dir: Path) -> None:
    """A sink and a worker that do not go on at the end: sentences for both, and exit code 1."""
    with Up(data_dir) as up:
        send(up, "seen")
        until(lambda: decided(up, "seen"), "a decision")
        os.kill(up.at.pids["sink"], signal.SIGSTOP)
        send(up, "not-in-the-audit")
        until(lambda: "decisions: 2 (" in up.output.read_text(), "the decision in the journal")
        os.kill(up.at.pids["worker"], signal.SIGSTOP)
        send(up, "never-decided")
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(DEADLINE_S) == 1
        said = up.output.read_text()
    assert "The journal has 2 steps and the audit 1." in said
    assert "1 sent inputs were never decided (1 of task.pending): never-decided; send them again." in said


def test_nothing_is_left_running_when_up_is_killed(data_dir: Path) -> None:
    """Even `kill -9` of the one process that watches takes all parts along, and the directory can be used again."""
    with Up(data_dir) as up:
        pids = up.at.pids
        up.process.kill()
        up.process.wait()
        until(lambda: not any(map(runs, pids.values())), "the end of all parts")
    with Up(data_dir) as again:
        assert again.at.pids["worker"] not in pids.values()


def test_two_installations_do_not_see_each_other(installation: Up, data_dir: Path) -> None:
    """Side by side, each has its own broker, database and pages; a task of one is unknown to the other."""
    with Up(data_dir) as other:
        assert not set(other.at.pids.values()) & set(installation.at.pids.values())
        send(installation, "only-here")
        send(other, "only-there")
        until(lambda: decided(installation, "only-here") and decided(other, "only-there"), "both decisions")
        assert not decided(installation, "only-there")
        assert not decided(other, "only-here")


@pytest.mark.parametrize("part", ["worker", "sink"])
def test_a_part_that_is_killed_is_started_again(installation: Up, part: str) -> None:
    """The part has a new process, up.json names it, and tasks are decided and recorded as before."""
    before = installation.at.pids[part]
    os.kill(before, signal.SIGKILL)
    until(lambda: (found := installation.file()) and found.pids.get(part, before) != before, f"a new {part}")
    send(installation, f"after-{part}")
    until(lambda: decided(installation, f"after-{part}"), "a decision")


def test_a_broker_that_forgets_takes_its_life_along_and_the_audit_stays(data_dir: Path, tmp_path: Path) -> None:
    """When the in-memory broker is killed, everything starts again, where it was, and the audit of before is unchanged.

    A dispatcher that runs through it brings its slots into the new life, and does its tasks there.
    """
    words = ("--pool", "d-over", "--ttl", "3", "--slot", "h=haiku", "--exec", "true")
    with Up(data_dir) as up, Dispatching(up, tmp_path, *words) as dispatcher:
        send(up, "before")
        for number in range(3):
            send(up, f"old-{number}", pool="d-over")
        dispatcher.wait_for("reported", count=3)
        until(lambda: decided(up, "before"), "a decision")
        before = up.at
        os.kill(before.pids["broker"], signal.SIGKILL)
        until(lambda: (found := up.file()) and found.pids["broker"] != before.pids["broker"], "a new life")
        found = up.at
        assert (found.broker, found.web, found.http) == (before.broker, before.web, before.http)
        assert found.sink == before.sink
        send(up, "after")
        send(up, "new", pool="d-over")
        until(lambda: decided(up, "after"), "a decision in the new life")
        assert decided(up, "before")
        assert finished(up, ["new"])["new"]["status"] == "success"
        assert dispatcher.wait_for("reported", "new")["lease"] == 1
        with psycopg.connect(up.at.database) as audit:
            lives = audit.execute("SELECT count(DISTINCT journal) FROM v_journal_steps").fetchone()
        assert lives == (2,)


@pytest.mark.kafka
def test_a_durable_broker_remembers_what_waits(data_dir: Path) -> None:
    """With Apache Kafka a task that waited when everything was stopped is routed after the next start."""
    try:
        find_java()
        fetch_kafka_jars()
    except MissingPart as missing:
        skip_without("kafka", str(missing))
    with Up(data_dir, "--broker", "kafka") as up:
        send(up, "patient")
        until(lambda: decided(up, "patient"), "the wait")
    with Up(data_dir, "--broker", "kafka") as up:
        slot = '{"slot_id":"late-1","pool":"main","model":"haiku"}'
        assert up.command("send", "slot", "--now", "-", stdin=slot).returncode == 0
        until(lambda: decided(up, "patient")[-1]["outcome"] == "routed", "the routing")
        assert [one["outcome"] for one in decided(up, "patient")] == ["waiting", "routed"]


@pytest.mark.kafka
def test_a_frozen_broker_does_not_hold_up_the_end(data_dir: Path) -> None:
    """Everything ends, with a sentence, and what waited is there at the next start."""
    try:
        find_java(), fetch_kafka_jars()
    except MissingPart as missing:
        skip_without("kafka", str(missing))
    with Up(data_dir, "--broker", "kafka") as up:
        send(up, "t-1")
        until(lambda: decided(up, "t-1"), "the decision in the audit")
        pids = up.at.pids
        os.kill(pids["broker"], signal.SIGSTOP)
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(DEADLINE_S) == 0, up.output.read_text()
        assert "The broker does not answer" in up.output.read_text()
        assert "Traceback" not in up.output.read_text()
        assert not any(map(runs, pids.values()))
    with Up(data_dir, "--broker", "kafka") as up:
        assert len(decided(up, "t-1")) == 1
        send(up, "t-2")
        until(lambda: decided(up, "t-2"), "the next decision in the audit")


def test_a_directory_in_use_is_refused_in_one_sentence(installation: Up) -> None:
    """A second `up` on one directory says so, and does not disturb the first."""
    second = installation.command("up")
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert "is running on" in second.stderr
    assert installation.at.pids


def test_a_port_in_use_is_reported_in_one_sentence_and_nothing_stays(installation: Up) -> None:
    """A worker that cannot have its port ends the start, and what had been started before it."""
    port = installation.at.web.rpartition(":")[2]
    with tempfile.TemporaryDirectory(prefix="slotwise-up-") as directory:
        refused = slotwise("up", "--data-dir", directory, "--web-port", port)
        assert refused.returncode == 3
        assert refused.stderr.splitlines()[-1].startswith(f"The worker cannot listen on port {port}")
        assert not (Path(directory) / "up.json").exists()


def test_the_password_of_the_database_is_for_its_owner(installation: Up) -> None:
    """It stands in the server's directory; up.json, logs, and what processes are started with do not have it."""
    directory = installation.directory
    password = (directory / "postgres" / "password").read_text()
    for file in ("up.json", "postgres/password", "postgres/pgpass"):
        assert (directory / file).stat().st_mode & 0o077 == 0
    shown = [directory / "up.json", installation.output, *(directory / "logs").glob("*.log")]
    shown += [Path(f"/proc/{pid}/{of}") for pid in installation.at.pids.values() for of in ("cmdline", "environ")]
    assert [path for path in shown if password.encode() in path.read_bytes()] == []
