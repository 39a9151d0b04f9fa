"""The dispatcher of the documentation does what its page says, on a running installation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer, KafkaProducer

from slotwise import Client, NotFinished
from streams.settings import Settings
from streams.topics import create_topics
from tests.functional.commands import DEADLINE_S, environment, until
from tests.functional.fleets import comes_to

if TYPE_CHECKING:
    from tests.functional.commands import Up

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "dispatcher.py"


def test_the_example_works_off_what_is_routed_to_its_slot(installation: Up, tmp_path: Path) -> None:
    """Three tasks, one slot: each is routed to it in turn, done once, and its end is in the audit."""
    (tmp_path / ".slotwise").symlink_to(installation.directory)
    output = tmp_path / "dispatcher.log"
    with output.open("wb") as log:
        dispatcher = subprocess.Popen(
            [sys.executable, str(EXAMPLE)], stdout=log, stderr=log, env=environment(), cwd=tmp_path
        )
    try:
        tasks = "\n".join(f'{{"task_id":"example-{n}","pool":"agents","title":"Fix typo"}}' for n in range(3))
        assert installation.command("send", "task", "--now", "-", stdin=tasks).returncode == 0

        def done() -> list[str]:
            result = [json.loads(installation.command("explain", f"example-{n}", "--json").stdout) for n in range(3)]
            return [one[-1]["task_id"] for one in result if one and (one[-1]["work"] or {}).get("status") == "success"]

        until(lambda: dispatcher.poll() is not None or len(done()) == 3, "the end of all three")
        assert dispatcher.poll() is None, output.read_text()
        lines = [line.partition(" ")[0] for line in output.read_text().splitlines()]
        assert sorted(line for line in lines if line.startswith("example-")) == ["example-0", "example-1", "example-2"]
    finally:
        dispatcher.kill()
        dispatcher.wait()


def test_the_example_is_as_short_as_it_says() -> None:
    """Less than forty lines and the imports: what is longer is not read."""
    lines = [line.strip() for line in EXAMPLE.read_text().splitlines()]
    code = [line for line in lines if line and not line.startswith(("#", '"""', "import ", "from "))]
    assert len(code) <= 36


def test_the_example_stops_what_is_cancelled_renews_and_announces_itself_again(
    installation: Up, tmp_path: Path
) -> None:
    """Its work takes an hour here: a short lease is renewed, and a cancelled task leaves the slot to the next."""
    program = endless().replace('"agents"', '"patient"')
    (tmp_path / ".slotwise").symlink_to(installation.directory)
    (tmp_path / "dispatcher.py").write_text(program)
    dispatcher = subprocess.Popen([sys.executable, "dispatcher.py"], env=environment(), cwd=tmp_path)
    try:
        with Client(bootstrap_servers=installation.at.broker) as client:
            first = client.submit(pool="patient", title="Read all of it", lease_s=6.0)
            comes_to(installation, first.task_id, "routed")
            with pytest.raises(NotFinished):
                client.wait(first, timeout=8.0)  # longer than its lease
            client.cancel(first)
            end = client.wait(first, timeout=DEADLINE_S)
            assert (end.status, end.slot_id, end.attempts) == ("cancelled", "my-haiku-1", 1)
            second = client.submit(pool="patient", title="Read the rest")
            client.cancel(second)
            assert client.wait(second, timeout=DEADLINE_S).status == "cancelled"
        assert dispatcher.poll() is None
    finally:
        dispatcher.kill()
        dispatcher.wait()


def test_a_cancel_that_comes_before_its_task_stops_it_all_the_same(tansu: str, tmp_path: Path) -> None:
    """Topics have no common order: a task that was cancelled at once may be read after its end."""
    create_topics(Settings(broker=tansu, topic_prefix="early.", group="early"))
    program = endless().replace('"task.', '"early.task.').replace('"slot.freed"', '"early.slot.freed"')
    (tmp_path / "dispatcher.py").write_text(program)
    reports = KafkaConsumer(
        "early.slot.freed",
        bootstrap_servers=tansu,
        group_id=None,
        auto_offset_reset="earliest",
        consumer_timeout_ms=int(DEADLINE_S * 1000),
    )
    producer = KafkaProducer(bootstrap_servers=tansu, enable_idempotence=False)
    dispatcher = subprocess.Popen([sys.executable, "dispatcher.py", tansu], env=environment(), cwd=tmp_path)

    def reported() -> Any:
        return json.loads(next(reports).value)

    def say(topic: str, **event: object) -> None:
        event = {"task_id": "t", "pool": "agents", "slot_id": "my-haiku-1", **event}
        producer.send(topic, key=b"agents", value=json.dumps(event).encode()).get(timeout=DEADLINE_S)

    def route(lease: int) -> None:
        times = {"decided_at": "2026-11-21T10:05:00.000Z", "lease_expires_at": "2036-11-21T10:05:00.000Z"}
        say("early.task.routed", lease=lease, reason="", **times)

    def cancel(lease: int) -> None:
        say("early.task.cancelled", lease=lease, reason_code="cancelled")

    def ended() -> tuple[int, str]:
        report = reported()
        return report["lease"], report["outcome"]["status"]

    try:
        assert "lease" not in reported()
        cancel(7)
        route(5)
        cancel(5)
        assert ended() == (5, "cancelled")  # so the cancel before was read as well
        route(7)
        assert ended() == (7, "cancelled")
    finally:
        dispatcher.kill()
        dispatcher.wait()
        reports.close()
        producer.close()


def endless() -> str:
    """Give the example with work that does not end of itself."""
    program = EXAMPLE.read_text().replace('Popen(["echo", ', 'Popen(["sleep", "3600", ')
    program = program.replace("f\"{task['task_id']} on {SLOT}: {task['reason']}\"", '"0"')
    assert '["sleep", "3600", "0"]' in program
    return program
