"""The table of rights: what each part may do, as text, as commands and as JSON, and what it must never contain."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

import pytest

from schemas.vocabulary import DECISION_AUDIT, FLEET_CONTROL, INPUT_TOPICS
from streams.access.granted import Described, lacking, sentence
from streams.access.rights import PARTS, Part, Right, grants, rights, script
from streams.commands.topics import markdown_table
from streams.settings import Settings
from streams.topics import names, topics
from tests.functional.commands import slotwise

SETTINGS = Settings(topic_prefix="eu.", group="fleet", broker="kafka-1:9092")
NAMES = names(SETTINGS)
SECURITY = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


def may(part: Part, operation: str) -> set[str]:
    """The topics that a part may do this with."""
    return {one.name for one in rights(part, NAMES) if one.resource == "topic" and operation in one.operations}


@pytest.mark.parametrize("part", PARTS)
def test_rights_are_of_topics_that_there_are(part: Part) -> None:
    """Each names a topic of the installation once, or a group of it."""
    found = [one.name for one in rights(part, NAMES) if one.resource == "topic"]
    of_replays = {NAMES.replay, NAMES.replayed} if part in ("replay", "administrator") else set()
    assert set(found) <= {topic.name for topic in topics(SETTINGS)} | of_replays
    assert len(found) == len(set(found))
    assert all(one.name.startswith(SETTINGS.group) for one in rights(part, NAMES) if one.resource == "group")


def test_who_may_write_what() -> None:
    """Orders are given by operators and their API, decisions made by workers, and a reader writes nothing."""
    assert {part for part in PARTS if NAMES.of(FLEET_CONTROL) in may(part, "WRITE")} == {"worker", "web", "operator"}
    assert {part for part in PARTS if NAMES.of(DECISION_AUDIT) in may(part, "WRITE")} == {"worker", "administrator"}
    assert may("reader", "WRITE") == may("sink", "WRITE") == set()
    assert may("replay", "WRITE") == may("replay", "CREATE") == {NAMES.replay, NAMES.replayed}
    assert {part for part in PARTS if NAMES.replay in may(part, "WRITE")} == {"replay"}
    assert may("operator", "READ") == may("reader", "READ")
    assert {NAMES.of(topic) for topic in INPUT_TOPICS} <= may("worker", "WRITE"), "ticks, and what is forwarded"


def test_the_workers_and_the_administrator_use_every_topic() -> None:
    """None was forgotten; workers and shadows write into each other's topics nothing."""
    everything = {topic.name for topic in topics(SETTINGS)}
    assert may("worker", "WRITE") | may("shadow", "WRITE") == everything
    assert may("worker", "WRITE") & may("shadow", "WRITE") == set()
    assert may("administrator", "CREATE") == may("administrator", "DELETE") == everything | may("replay", "CREATE")
    assert may("reader", "DESCRIBE_CONFIGS") == everything


def test_the_commands_grant_what_the_table_says() -> None:
    """The lines of the script, read as kafka-acls.sh reads them, are the grants of the JSON."""
    parser = argparse.ArgumentParser()
    for option in ("--bootstrap-server", "--command-config", "--allow-principal"):
        parser.add_argument(option, required=True)
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--resource-pattern-type", default="literal")
    for option in ("--operation", "--topic", "--group"):
        parser.add_argument(option, action="append", default=[])
    found = list(grants(PARTS, NAMES, "User:it's-{part}"))
    said = set()
    for text in script(found, broker=SETTINGS.broker):
        program, *words = shlex.split(text)
        assert program == "kafka-acls.sh"
        line = parser.parse_args(words)
        assert line.bootstrap_server == SETTINGS.broker
        said |= {
            (line.allow_principal, kind, name, line.resource_pattern_type, operation)
            for kind in ("topic", "group")
            for name in getattr(line, kind)
            for operation in line.operation
        }
    assert said == {
        (
            one.principal,
            one.right.resource,
            one.right.name,
            "prefixed" if one.right.prefixed else "literal",
            re.sub("_", "", operation.title()),
        )
        for one in found
        for operation in one.right.operations
    }


def test_the_page_has_the_table() -> None:
    """`slotwise topics acls --markdown` writes what stands between the markers."""
    written = SECURITY.partition("<!-- acls:")[2].partition("-->\n")[2].partition("\n<!-- end of acls -->")[0]
    assert written == "\n".join(markdown_table()), "run `slotwise topics acls --markdown` and paste"


def test_the_command_prints_one_part() -> None:
    """As JSON for programs, with a principal of one's own; an unknown part is a mistake with the nearest name."""
    done = slotwise("topics", "acls", "sink", "--principal", "User:CN=audit", "--json")
    found = json.loads(done.stdout)
    assert {(one["part"], one["principal"]) for one in found} == {("sink", "User:CN=audit")}
    dry = json.loads(slotwise("topics", "acls", "worker", "--dry-run", "--json").stdout)
    written = {one["right"]["name"] for one in dry if "WRITE" in one["right"]["operations"]}
    assert {name for name in written if not name.startswith("slotwise-dry-run-")} == {
        "decision.shadow", "slotwise.shadow"
    }  # fmt: skip
    wrong = slotwise("topics", "acls", "snik")
    assert wrong.returncode == 2
    assert "Did you mean sink?" in wrong.stderr


def test_what_is_lacking_is_said_in_one_sentence() -> None:
    """Who, what of which topic, and how it is granted; of many rights the first, and how many more."""
    needed = [Right("topic", f"t-{number}", ("READ", "WRITE")) for number in range(5)]
    found = {one.name: Described(partitions=1, replication=1, operations=frozenset({"READ"})) for one in needed}
    missing = lacking(None, Settings(), needed, found)
    assert [one.operations for one in missing] == [("WRITE",)] * 5
    said = sentence(Settings(broker="kafka-1:9092", kafka_user="bob"), "worker", missing)
    assert said == (
        "The broker at kafka-1:9092 does not let User:bob WRITE topic t-0, WRITE topic t-1, WRITE topic t-2, and 2 "
        "more, which the worker needs: have it granted; `slotwise topics acls worker --script` prints the commands."
    )
    assert "`slotwise topics acls worker --dry-run --script`" in sentence(Settings(dry_run=True), "worker", missing)


def test_a_broker_that_says_nothing_of_rights_is_not_doubted() -> None:
    """Not every broker knows ACLs."""
    found = {"t": Described(partitions=1, replication=1, operations=None)}
    assert lacking(None, Settings(), [Right("topic", "t", ("READ",))], found) == []
