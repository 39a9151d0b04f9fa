"""An operator's order is checked before it is sent, stands once in every partition it concerns, and takes effect."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from msgspec import Struct

from streams.settings import Settings
from streams.shipped import shipped
from streams.topics import create_topics
from tests.functional.commands import slotwise, until
from tests.functional.fleets import announce, audited, comes_to, look, order, pend, pool_of

if TYPE_CHECKING:
    from pathlib import Path

    from streams.local.tansu import EmbeddedBroker
    from tests.functional.commands import Up

PARTITIONS = 8


def later(hours: float = 2) -> str:
    """Give a moment to come."""
    return (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def orders_in_the_log(up: Up) -> int:
    """Count the records of fleet.control that are no ticks."""
    consumer = KafkaConsumer(bootstrap_servers=up.at.broker, group_id=None, auto_offset_reset="earliest")
    try:
        partitions = [TopicPartition("fleet.control", number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        found = 0
        ends = consumer.end_offsets(partitions)
        while any(consumer.position(where) < end for where, end in ends.items()):
            for batch in consumer.poll(timeout_ms=200).values():
                found += sum(b'"kind":"tick"' not in record.value for record in batch)
        return found
    finally:
        consumer.close()


def test_an_exhausted_product_takes_no_work_until_it_is_restored(operated: Up) -> None:
    """The order has one position in every partition; another product of the vendor goes on; the audit has it."""
    announce(operated, "worn", "codex-1", "gpt-5-1")
    given = order(operated, "exhausted", "codex", "--until", later(), "--by", "ann")
    assert [one["partition"] for one in given["positions"]] == list(range(PARTITIONS))
    assert {one["fate"] for one in given["positions"]} == {"taken"}
    assert audited(operated, given["control_id"]) == {
        "kind": "model.exhausted", "by": "ann", "pool": None, "partitions": list(range(PARTITIONS))
    }  # fmt: skip
    pend(operated, "worn", "worn-1", requires={"coding": 9}, max_tier=2)
    assert comes_to(operated, "worn-1", "waiting")["reason_code"] == "exhausted"
    pend(operated, "worn", "worn-2", requires={"coding": 9})
    assert comes_to(operated, "worn-2", "routed")["model"] == "gpt-5"
    order(operated, "restore", "codex-cli")
    assert comes_to(operated, "worn-1", "routed")["model"] == "codex"


def test_a_mark_of_one_account_and_pool_leaves_all_others(operated: Up) -> None:
    """With a pool the order goes to its partition alone."""
    announce(operated, "two", "haiku-1", account="a")
    announce(operated, "two", "haiku-2", account="b")
    given = order(operated, "exhausted", "claude", "--until", later(), "--account", "a", "--pool", "two")
    assert len(given["positions"]) == 1
    (haiku,) = pool_of(operated, "two").models
    assert {cell.account: cell.gate for cell in haiku.cells} == {"a": "exhausted", "b": None}


def test_a_drained_model_gets_nothing_new_until_it_is_restored(operated: Up) -> None:
    """What waits for it goes on when it is back."""
    announce(operated, "dry", "haiku-1")
    order(operated, "drain", "haiku", "--pool", "dry")
    pend(operated, "dry", "dry-1")
    assert comes_to(operated, "dry-1", "waiting")["reason_code"] == "drained"
    order(operated, "restore", "haiku", "--pool", "dry")
    comes_to(operated, "dry-1", "routed")


def test_a_quota_moves_the_curve(operated: Up) -> None:
    """The provider is looked up; from 95 % on the whole product is spared."""
    announce(operated, "used", "haiku-1")
    words = ("--product", "claude", "--window", "5h", "--pool", "used")
    order(operated, "quota", "set", *words, "--utilisation", "0.96", "--resets-at", later())
    pend(operated, "used", "used-1")
    assert comes_to(operated, "used-1", "waiting")["reason_code"] == "quota"
    order(operated, "quota", "set", *words, "--utilisation", "0.1")
    comes_to(operated, "used-1", "routed")


def test_a_credit_given_again_under_its_id_counts_once(operated: Up) -> None:
    """Who is not sure whether an order went out may give it again."""
    words = ("credit", "acme", "5.25", "--pool", "paid", "--control-id", "credit-once", "--new")
    assert order(operated, *words)["positions"][0]["fate"] == "taken"
    assert order(operated, *words)["positions"][0]["fate"] == "known"
    order(operated, "credit", "acme", "-0.25", "--pool", "paid")
    (budget,) = pool_of(operated, "paid").budgets
    assert (budget.tenant_id, budget.credited_usd, budget.available_usd) == ("acme", 5.0, 5.0)


def test_a_slot_is_retired_and_an_unknown_name_is_reported(operated: Up) -> None:
    """One that finds nothing is not sent, unless it is to be sent all the same."""
    announce(operated, "old", "haiku-1", "haiku-2")
    assert order(operated, "retire", "haiku-2", "--pool", "old")["positions"][0]["note"] is None
    (haiku,) = pool_of(operated, "old").models
    assert haiku.slots.free == 1
    done = operated.command("retire", "haiku-9", "--pool", "old")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Pool old has no slot haiku-9. Did you mean haiku-1?" in done.stderr
    done = operated.command("retire", "haiku-9", "--pool", "old", "--new")
    assert done.returncode == 0
    assert "pool old has no slot haiku-9" in done.stderr


def test_a_waiting_task_is_cancelled_with_the_name_of_the_operator(operated: Up) -> None:
    """The task's last decision names who did it."""
    pend(operated, "gone", "gone-1")
    comes_to(operated, "gone-1", "waiting")
    order(operated, "cancel", "gone-1", "--pool", "gone", "--by", "bob")
    assert "bob" in comes_to(operated, "gone-1", "cancelled")["reason"]
    done = operated.command("cancel", "gone-1", "--pool", "gone")
    assert (done.returncode, "(cancelled)" in done.stderr) == (1, True)
    done = operated.command("cancel", "gone-2", "--pool", "gnoe")
    assert (done.returncode, "Did you mean gone?" in done.stderr) == (1, True)
    done = operated.command("cancel", "gone-2", "--pool", "gone", "--new")
    assert "has no task gone-2 yet" in done.stderr


@pytest.mark.rule("control.task.retried")
def test_a_task_that_was_done_is_run_again_under_its_id(operated: Up) -> None:
    """Not while it runs; a duplicate says how, an unknown id has the nearest one, and the story has both lives."""
    announce(operated, "again", "haiku-1")
    pend(operated, "again", "again-1", title="Nightly report")
    comes_to(operated, "again-1", "routed")
    runs = operated.command("retry", "again-1")
    assert runs.returncode == 1
    assert "task again-1 is running on haiku-1: only a task that has ended is run again." in runs.stderr

    outcome = '{"task_id":"again-1","status":"success"}'
    done = f'{{"slot_id":"haiku-1","pool":"again","lease":1,"outcome":{outcome}}}'
    assert operated.command("send", "slot", "--now", "-", stdin=done).returncode == 0
    assert operated.command("wait", "again-1").returncode == 0
    twice = operated.command("send", "task", "--now", "-", stdin='{"task_id":"again-1","pool":"again"}')
    assert "`slotwise retry again-1` runs it again" in twice.stderr
    unknown = operated.command("retry", "agian-1")
    assert unknown.returncode == 1
    assert "Did you mean again-1?" in unknown.stderr

    given = order(operated, "retry", "again-1", "--by", "ann")
    assert (given["task"]["ended"], given["sent"]["topic"]) == ("done", "task.pending")

    def story() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(operated.command("explain", "again-1", "--json").stdout)
        return found

    until(lambda: len(story()) == 2, "the decision of the second life")
    first, second = story()
    assert [(one["attempt"], one["title"], one["outcome"]) for one in (first, second)] == [
        (1, "Nightly report", "routed")
    ] * 2
    assert [(one["kind"], one["by"]) for one in first["orders"]] == [("task.retried", "ann")]


def test_a_restarted_lane_is_in_the_audit(operated: Up) -> None:
    """The event stands in the audit of every partition."""
    assert "Nothing was sent" in operated.command("restart-lane", "maintenance").stderr
    given = order(operated, "restart-lane", "maintenance", "--new")
    assert audited(operated, given["control_id"])["partitions"] == list(range(PARTITIONS))


def test_people_read_where_the_order_stands(operated: Up) -> None:
    """Id, how far it is in force, and every position."""
    done = operated.command("drain", "glm")
    assert done.returncode == 0, done.stderr
    result, positions = done.stdout.splitlines()
    assert re.fullmatch(r"model\.drained [0-9a-f-]{36}: in force in 8 of 8 partitions\.", result)
    assert re.fullmatch(r"fleet\.control, partition@offset:( \d@\d+){8}", positions)
    order(operated, "restore", "glm")


def test_without_waiting_the_command_ends_when_the_broker_has_the_order(operated: Up) -> None:
    """It is taken a moment later all the same."""
    given = order(operated, "drain", "minimax", "--pool", "hasty", "--no-wait", "--new")
    assert given["positions"][0]["fate"] == "sent"
    announce(operated, "hasty", "minimax-1")
    until(lambda: look(operated, "hasty").pools and not look(operated, "hasty").well, "the drain of minimax")


class Mistake(Struct, frozen=True, kw_only=True):
    """An order that cannot be given."""

    words: tuple[str, ...]
    want: str


MISTAKES = {
    "a model spelled wrong": Mistake(words=("exhausted", "opsu", "--until", later()), want="Did you mean opus?"),
    "a model that cannot be drained, as it is none": Mistake(words=("drain", "haikou"), want="Did you mean haiku?"),
    "a product spelled wrong": Mistake(
        words=("quota", "set", "--product", "claud", "--window", "5h", "--utilisation", "0.5"),
        want="Did you mean claude?",
    ),
    "a provider that is another's": Mistake(
        words=("quota", "set", "--product", "claude", "--window", "5h", "--utilisation", "0.5", "--provider", "openai"),
        want="is of provider anthropic",
    ),
    "a share that is a percentage": Mistake(
        words=("quota", "set", "--product", "claude", "--window", "5h", "--utilisation", "83"),
        want="for 83 % send 0.83",
    ),
    "a time that is none": Mistake(words=("exhausted", "opus", "--until", "tomorrow"), want="no ISO time"),
    "a time without a zone": Mistake(words=("drain", "opus", "--until", "2027-01-01T00:00:00"), want="which zone"),
    "a time that is past": Mistake(words=("exhausted", "opus", "--until", "2020-01-01T00:00:00Z"), want="is past"),
    "an amount that is none": Mistake(words=("credit", "acme", "nan", "--pool", "main"), want="amount_usd"),
    "an id that is none": Mistake(words=("cancel", "t 1", "--pool", "main"), want="task_id"),
    "a cap of no one": Mistake(
        words=("breaker", "open", "--until", "2100-01-01T00:00:00Z"), want="neither tenant_id, lane nor pool is named"
    ),
    "a cap that the policy does not have": Mistake(
        words=("breaker", "open", "--tenant", "acme", "--until", "2100-01-01T00:00:00Z"),
        want="the policy caps no spend of tenant acme",
    ),
    "no pool where one is needed": Mistake(words=("retire", "haiku-1"), want="--pool"),
}


def test_a_mistake_is_reported_and_nothing_is_sent(operated: Up) -> None:
    """In one sentence, with the nearest name, and exit code 2."""
    before = orders_in_the_log(operated)
    for situation, case in MISTAKES.items():
        done = operated.command(*case.words)
        assert done.returncode == 2, situation
        assert case.want in done.stderr, situation
        assert done.stdout == "", situation
        assert done.stderr.count("\n") == 1, situation
    assert orders_in_the_log(operated) == before


def test_a_time_with_an_offset_is_sent_as_utc(operated: Up) -> None:
    """People write their own zone; events know one."""
    order(operated, "drain", "local", "--until", "2100-01-01T01:00:00+01:00", "--pool", "zone", "--new")
    announce(operated, "zone", "local-1")
    (drain,) = pool_of(operated, "zone").drained
    assert drain.until == "2100-01-01T00:00:00.000Z"


def test_what_the_files_here_know_and_the_router_does_not_is_refused_by_it(operated: Up, tmp_path: Path) -> None:
    """The dead letter's reason is printed, and the exit code is 1."""
    file = tmp_path / "catalog.toml"
    file.write_text(shipped("catalog.toml").replace('id = "glm"', 'id = "glm-next"'))
    done = operated.command("drain", "glm-next", "--catalog", str(file), "--policy", str(_plain_policy(tmp_path)))
    assert done.returncode == 1
    assert "in force in 0 of 8 partitions, refused in 8" in done.stdout
    assert "Partition 0 refused it: model glm-next is not in the catalogue." in done.stderr


def test_what_the_router_knows_and_the_files_here_do_not_is_no_mistake(operated: Up, tmp_path: Path) -> None:
    """The rules in force are asked before a name is called unknown."""
    file = tmp_path / "catalog.toml"
    file.write_text(shipped("catalog.toml").replace('id = "glm"', 'id = "glm-last"'))
    order(operated, "drain", "local", "--pool", "known", "--new")
    given = order(
        operated,
        "drain",
        "glm",
        "--catalog",
        str(file),
        "--policy",
        str(_plain_policy(tmp_path)),
        "--pool",
        "known",
        "--new",
    )
    assert given["positions"][0]["fate"] == "taken"


def test_an_order_stands_in_the_log_although_no_worker_is_there(tansu_broker: EmbeddedBroker) -> None:
    """It is not in force yet, which is said, with exit code 1; a worker takes it when it comes."""
    settings = Settings(broker=tansu_broker.start(), topic_prefix="idle.", group="idle")
    create_topics(settings)
    done = slotwise(
        *("drain", "opus", "--broker", settings.broker, "--topic-prefix", "idle.", "--group", "idle"),
        *("--wait-s", "0.5", "--json"),
    )
    assert done.returncode == 1, done.stderr
    assert {one["fate"] for one in json.loads(done.stdout)["positions"]} == {"sent"}


def _plain_policy(directory: Path) -> Path:
    """Write a policy that names no models, so that it goes with any catalogue."""
    file = directory / "policy.toml"
    file.write_text("")
    return file


@pytest.mark.parametrize("command", ["exhausted", "restore", "drain", "credit", "retire", "cancel", "restart-lane"])
def test_every_order_shows_an_example(command: str) -> None:
    """`--help` ends with one."""
    assert f"Example: slotwise {command} " in slotwise(command, "--help").stdout
