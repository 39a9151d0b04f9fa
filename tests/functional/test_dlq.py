"""`slotwise dlq`: what was refused is listed with its reason, shown, sent again, dropped; `check` names what is new."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaProducer

from schemas.dead_letters import dead_letter_headers
from streams.operate.dead_letters import read_dead_letters
from streams.topics import home_of
from tests.functional.commands import DEADLINE_S, environment, until
from tests.functional.fleets import announce, comes_to, settings

if TYPE_CHECKING:
    from tests.functional.commands import Up

AT = "2026-11-21T10:00:00.000Z"


def produce(up: Up, topic: str, pool: str, *values: bytes, headers: Any = ()) -> None:
    """Send records as they are, to the partition of the pool."""
    partition = home_of(8)(pool.encode())
    with contextlib.closing(KafkaProducer(bootstrap_servers=up.at.broker)) as producer:
        for value in values:
            producer.send(topic, value, pool.encode(), partition=partition, headers=list(headers)).get(10)


def of_pool(up: Up, pool: str) -> list[dict[str, Any]]:
    """The dead letters of a pool, as `list --json` has them."""
    listed = up.command("dlq", "list", "--json", "--limit", "1000")
    assert listed.returncode == 0, listed.stderr
    return [one for one in json.loads(listed.stdout)["dead_letters"] if one["pool"] == pool]


def come(up: Up, pool: str, count: int) -> None:
    """Wait until a pool has so many new dead letters."""

    def there() -> bool:
        found = asyncio.run(read_dead_letters(settings(up)))
        return found.new(0, pool).count == count  # type: ignore[arg-type]

    until(there, f"{count} dead letters of {pool}")


def task(pool: str, task_id: str, **fields: Any) -> bytes:
    """The value of a task."""
    return json.dumps({"task_id": task_id, "pool": pool, "at": AT, **fields}).encode()


def test_check_is_not_well_while_a_dead_letter_is_new(installation: Up) -> None:
    """With the newest one's sentence; when all are dropped with a reason, it is well again."""
    pool = "dead-checked"
    announce(installation, pool, "haiku-1")
    until(lambda: installation.command("check", "--pool", pool).returncode == 0, "a pool that is well")
    produce(
        installation,
        "slot.freed",
        pool,
        json.dumps({"slot_id": "s-9", "pool": pool, "at": AT, "model": "opsu"}).encode(),
    )
    come(installation, pool, 1)
    checked = installation.command("check", "--pool", pool)
    assert checked.returncode == 1
    assert "1 dead letter is new; the newest came " in checked.stderr
    assert "on slot.freed (s-9): " in checked.stderr
    assert "Did you mean opus?" in checked.stderr
    assert "All well." not in checked.stdout
    result = json.loads(installation.command("check", "--pool", pool, "--json").stdout)
    assert (result["well"], result["dead_letters"]["by_topic"]) == (False, {"slot.freed": 1})
    (one,) = of_pool(installation, pool)
    dropped = installation.command("dlq", "drop", one["dead_letter"], "--because", "a typo in a test", "--by", "ann")
    assert (dropped.returncode, dropped.stdout) == (0, "1 of 1 dead letters dropped.\n"), dropped.stderr
    well = installation.command("check", "--pool", pool)
    assert well.returncode == 0, well.stderr
    (one,) = of_pool(installation, pool)
    assert (one["state"], one["marked"]["by"], one["marked"]["because"]) == ("dropped", "ann", "a typo in a test")
    again = installation.command("dlq", "drop", one["dead_letter"], "--because", "once more")
    assert again.returncode == 2
    assert "was dropped by ann" in again.stderr


def test_a_dead_letter_is_sent_again_as_it_was_and_then_says_so(installation: Up) -> None:
    """One that an earlier version refused for its partition; with --dry-run it is only said what would be sent."""
    pool = "dead-replayed"
    announce(installation, pool, "haiku-1")
    own = (("ce_id", b"e-1"), ("ce_source", b"/test"))
    headers = dead_letter_headers("task.pending", 0, 7, "The record is on another partition.", own)
    produce(installation, "task.pending.dlq", pool, task(pool, "again-1"), headers=headers)
    come(installation, pool, 1)
    (one,) = of_pool(installation, pool)
    dry = installation.command("dlq", "replay", one["dead_letter"], "--dry-run")
    to = f"task.pending[{home_of(8)(pool.encode())}]"
    assert dry.stdout == (
        f"{one['dead_letter']} (again-1) would be sent to {to}\n1 of 1 dead letters would be replayed.\n"
    ), dry.stderr
    assert of_pool(installation, pool)[0]["state"] == "new"
    replayed = installation.command("dlq", "replay", one["dead_letter"], "--json")
    assert replayed.returncode == 0, replayed.stderr
    assert json.loads(replayed.stdout)["dead_letters"] == [
        {"dead_letter": one["dead_letter"], "id": "again-1", "to": to, "done": True, "problem": None}
    ]
    comes_to(installation, "again-1", "routed")
    (one,) = of_pool(installation, pool)
    assert (one["state"], one["origin"]) == ("replayed", "task.pending[0]@7")
    assert "nothing was done" in installation.command("dlq", "replay", one["dead_letter"]).stderr
    assert installation.command("dlq", "replay", one["dead_letter"], "--again").returncode == 0


def test_many_are_chosen_by_reason_and_what_would_be_refused_again_is_not_sent(installation: Up) -> None:
    """Without a terminal it is done with --yes only; what was not sent stays new, with exit code 1."""
    pool = "dead-chosen"
    headers = dead_letter_headers("task.pending", 0, -1, "Chosen for a reason.")
    produce(installation, "task.pending.dlq", pool, task(pool, "c-1"), b"{", task(pool, "c-2"), headers=headers)
    come(installation, pool, 3)
    words = ("dlq", "replay", "--reason", "chosen FOR", "--since", "1h")
    asked = installation.command(*words)
    assert asked.returncode == 2
    assert "replay 3 dead letters? To do it without being asked: --yes." in asked.stderr
    done = installation.command(*words, "--yes")
    assert done.returncode == 1
    assert done.stdout == "2 of 3 dead letters replayed.\n"
    assert "was not sent: It would be refused again: value: is not JSON" in done.stderr
    assert sorted((one["id"] or "", one["state"]) for one in of_pool(installation, pool)) == [
        ("", "new"), ("c-1", "replayed"), ("c-2", "replayed")
    ]  # fmt: skip


def test_a_record_is_shown_whole_and_harmless(installation: Up) -> None:
    """What acts on a terminal is escaped, and a password masked; --json has every byte."""
    pool = "dead-shown"
    value = b'{"task_id":"\x1b[31mred","at":"postgresql://ann:Canary2Sings@h/db","rtl":"\xe2\x80\xae"}'
    produce(installation, "task.pending", pool, value, b"\xff\x9b", headers=(("own", b"\x07"),))
    come(installation, pool, 2)
    names = [one["dead_letter"] for one in of_pool(installation, pool)]
    shown = installation.command("dlq", "show", *names)
    assert shown.returncode == 0, shown.stderr
    listed = installation.command("dlq", "list", "--limit", "1000")
    for text in (shown.stdout, listed.stdout):
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(text)
        assert "Canary" not in text
    assert "own: \\u0007" in shown.stdout
    assert "\\xff\\x9b" in shown.stdout
    raw = installation.command("dlq", "show", *names, "--json").stdout
    assert not {"\x1b", "\u202e"} & set(raw)
    whole = [one["record"] for one in json.loads(raw)]
    assert sorted(one.get("value") or one["value_base64"] for one in whole) == sorted([value.decode(), "/5s="])
    assert {"name": "own", "value": "\x07"} in whole[0]["headers"]


def test_on_a_terminal_it_is_asked_first(installation: Up) -> None:
    """An answer that is no yes leaves everything as it is."""
    pool = "dead-asked"
    headers = dead_letter_headers("task.pending", 0, -1, "Asked of a person.")
    produce(installation, "task.pending.dlq", pool, task(pool, "asked"), headers=headers)
    come(installation, pool, 1)
    words = ("dlq", "replay", "--reason", "asked of a person", "--data-dir", str(installation.directory))
    for answer, want in ((b"n\n", "new"), (b"y\n", "replayed")):
        above, below = pty.openpty()
        try:
            asked = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", *words], stdin=below, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env=environment(),
            )  # fmt: skip
            os.write(above, answer)
            assert asked.wait(DEADLINE_S) == (1 if want == "new" else 0)
        finally:
            os.close(above)
            os.close(below)
        assert [one["state"] for one in of_pool(installation, pool)] == [want]


@pytest.mark.parametrize(
    ("words", "want"),
    [
        pytest.param(("replay",), "name what to replay", id="no selection"),
        pytest.param(("drop", "--because", "x"), "name what to drop", id="no selection to drop"),
        pytest.param(("replay", "task.pending/0/0", "--all"), "either name dead letters", id="two selections"),
        pytest.param(("show", "task.pending/0/999999"), "There is no dead letter task.pending/0/999999", id="none"),
        pytest.param(("list", "--since", "yesterday"), "30m, 3h, 2d", id="no time"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(installation: Up, words: tuple[str, ...], want: str) -> None:
    """With exit code 2, and nothing is done."""
    refused = installation.command("dlq", *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert want in refused.stderr
