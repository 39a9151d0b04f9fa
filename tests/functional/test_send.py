"""`slotwise send`: lines become records under the right key and partition; bad lines are reported and not sent."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from aiokafka.partitioner import murmur2
from kafka import KafkaConsumer, TopicPartition

from tests.functional.commands import DEADLINE_S, environment

if TYPE_CHECKING:
    from pathlib import Path

    from kafka.consumer.fetcher import ConsumerRecord

    from tests.functional.commands import Up

PARTITIONS = 8
AT = "2026-11-21T10:00:00.000Z"


def records(up: Up, topic: str, wanted: str) -> list[ConsumerRecord]:
    """Read the records of a topic whose value has a text in it."""
    consumer = KafkaConsumer(bootstrap_servers=up.at.broker, group_id=None, auto_offset_reset="earliest")
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found = []
        while any(consumer.position(where) < end for where, end in ends.items()):
            for batch in consumer.poll(timeout_ms=200).values():
                found += [record for record in batch if wanted.encode() in record.value]
        return found
    finally:
        consumer.close()


def test_a_task_goes_where_the_default_partitioner_puts_its_pool(installation: Up, tmp_path: Path) -> None:
    """Key, partition and CloudEvents headers are those of the wire contract; the value is the line as it was."""
    file = tmp_path / "tasks.jsonl"
    lines = [f'{{"task_id":"spread-{n}","pool":"pool-{n}","at":"{AT}","mine":[1, 2]}}' for n in range(20)]
    file.write_text("\n".join([*lines, "", ""]))
    sent = installation.command("send", "task", str(file), "--json")
    assert sent.returncode == 0, sent.stderr
    result = json.loads(sent.stdout)
    notes = result.pop("notes")
    assert result == {
        "topic": "task.pending", "lines": 20, "sent": 20, "records": 20, "refused": 0, "refusals": []
    }  # fmt: skip
    assert [note["line"] for note in notes] == list(range(1, 21))
    assert {note["reason"] for note in notes} == {"field mine is none of this event, and is not read."}
    found = records(installation, "task.pending", '"spread-')
    assert sorted(record.value.decode() for record in found) == sorted(lines)
    for record in found:
        pool = json.loads(record.value)["pool"].encode()
        assert record.key == pool
        assert record.partition == (murmur2(pool) & 0x7FFFFFFF) % PARTITIONS
        assert dict(record.headers)["ce_type"] == b"slotwise.task.pending.v1"


def test_lines_that_would_be_refused_are_reported_and_the_others_sent(installation: Up) -> None:
    """Each bad line has its number and its reason, and the exit code says that not all is well."""
    lines = ['{"task_id":"good-1","pool":"send-mixed"}', "rubbish", '{"task_id":"bad id","pool":"send-mixed"}', "[]"]
    sent = installation.command("send", "task", "--now", "-", "--json", stdin="\n".join(lines))
    assert sent.returncode == 1
    result = json.loads(sent.stdout)
    assert (result["sent"], result["refused"]) == (1, 3)
    assert [refusal["line"] for refusal in result["refusals"]] == [2, 3, 4]
    assert "task_id" in result["refusals"][1]["reason"]
    assert len(records(installation, "task.pending", "send-mixed")) == 1


def test_what_means_nothing_is_said_with_the_nearest_name(installation: Up) -> None:
    """A model, a field, a type of work, a duplicate, nothing at all."""

    def said(kind: str, stdin: str, *more: str) -> tuple[int, str]:
        done = installation.command("send", kind, "--now", "-", *more, stdin=stdin)
        return done.returncode, done.stderr

    code, text = said("slot", '{"slot_id":"n-1","pool":"send-names","model":"hiaku"}')
    assert (code, "model hiaku is not in the catalogue. Did you mean haiku?" in text) == (1, True)
    typo = '{"task_id":"n-%s","pool":"send-names","agnet_role":"x","task_type":"coding"}'
    code, text = said("task", typo % 1, "--strict")
    assert (code, "Did you mean agent_role?" in text) == (1, True)
    code, text = said("task", typo % 1)
    assert (code, "task_type coding is in no list of the policy. Did you mean" in text) == (0, True)
    assert said("task", "\n")[0] == 1
    assert installation.command("cancel", "n-1", "--pool", "send-names").returncode == 0
    code, text = said("task", '{"task_id":"n-1","pool":"send-names","at":"2026-01-01T00:00:00Z"}')
    assert (code, "a duplicate: n-1 ended at" in text) == (1, True)
    assert said("task", '{"task_id":"n-1","pool":"send-names"}')[0] == 0, "sent after its end it is done again"
    assert len(records(installation, "task.pending", '"n-1"')) == 2


def test_what_is_piped_in_needs_no_file_name(installation: Up) -> None:
    """`echo ... | slotwise send task --now` sends the line."""
    task = '{"task_id":"piped-1","pool":"send-piped"}'
    sent = installation.command("send", "task", "--now", "--json", stdin=task)
    assert (sent.returncode, json.loads(sent.stdout)["sent"]) == (0, 1), sent.stderr
    assert len(records(installation, "task.pending", "piped-1")) == 1


def test_a_terminal_is_not_read_unless_asked_for() -> None:
    """Without a file and without a pipe the command says what it needs, and does not wait for lines."""
    terminal, typed = pty.openpty()
    try:
        found = subprocess.run(
            [sys.executable, "-m", "streams.cli", "send", "task", "--now"],
            stdin=typed, capture_output=True, text=True, env=environment(), timeout=DEADLINE_S, check=False,
        )  # fmt: skip
    finally:
        os.close(typed)
        os.close(terminal)
    assert (found.returncode, found.stdout) == (2, "")
    assert "name a file of JSON lines, or pipe them in" in found.stderr


@pytest.mark.parametrize(
    ("event", "want_partitions"),
    [
        pytest.param(
            '{"kind":"model.drained","control_id":"%s","at":"%s","by":"ops","model":"none-such"}', 8, id="all"
        ),
        pytest.param(
            '{"kind":"slot.retired","control_id":"%s","at":"%s","by":"ops","pool":"send-one","slot_id":"s"}',
            1,
            id="one",
        ),
    ],
)
def test_an_operator_event_reaches_every_partition_that_it_concerns(
    installation: Up, event: str, want_partitions: int
) -> None:
    """With a pool it is keyed by it; without, the same record stands on every partition, without a key."""
    control_id = f"send-control-{want_partitions}"
    sent = installation.command("send", "control", "-", "--json", stdin=event % (control_id, AT))
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["records"] == want_partitions
    found = records(installation, "fleet.control", control_id)
    assert len({record.partition for record in found}) == len(found) == want_partitions
    assert {record.key for record in found} == ({None} if want_partitions == PARTITIONS else {b"send-one"})
