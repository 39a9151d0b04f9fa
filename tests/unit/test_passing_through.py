"""What a producer sends with a task reaches the dispatcher as it was sent, and stands in the journal once."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from schemas.codec import read_event, read_output
from schemas.decision import Step, TaskRow
from schemas.events import TaskPending, TaskRouted
from schemas.input import Unreadable
from schemas.steps import encode_step
from schemas.vocabulary import TASK_PENDING, TASK_ROUTED, Millis
from streams.core.router import Router
from streams.partition.memory import Log, MemoryJournal
from streams.partition.outputs import Outgoing
from streams.partition.ports import JournalPosition
from streams.partition.publish import Publisher
from streams.partition.task_events import EventFinder
from streams.sinks.audit_step import read_audit_step
from tests.support.builders import START_MS, freed, inputs, rulebook, slot, step
from tests.support.router_rig import RouterRig

AT = "2026-11-21T10:00:00.000Z"
MARK = "the-work-itself"
#: Values that a reader into doubles, or one that sorts keys, would change.
PAYLOAD = (
    f'{{ "z":1, "a":[0.10,1e2,-0.0,12345678901234567890123,1.0], "t":"caf\\u00e9 \\n\\"",  "what":"{MARK}", "":{{}} }}'
)
COMPACT = f'{{"z":1,"a":[0.10,1e2,-0.0,12345678901234567890123,1.0],"t":"caf\\u00e9 \\n\\"","what":"{MARK}","":{{}}}}'


def sent(task_id: str = "t-1", payload: str = PAYLOAD, **fields: Any) -> TaskPending:
    """Read a task as a producer sends it."""
    start = json.dumps({"task_id": task_id, "pool": "main", "at": AT, **fields})
    event = read_event(TASK_PENDING, b"main", f'{start[:-1]},"payload":{payload}}}'.encode(), ())
    assert isinstance(event, TaskPending), event
    return event


async def published(steps: Sequence[Step], router: Router | None = None, *, offered: bool = True) -> list[Outgoing]:
    """Publish steps as a worker offers them, or as a publisher finds them in the journal after a restart."""
    arrived: list[Outgoing] = []

    class Outputs:
        async def send(self, outgoing: Sequence[Outgoing]) -> Sequence[Awaitable[object]]:
            arrived.extend(outgoing)
            return []

    class Progress:
        async def load(self) -> tuple[int, int | None] | None:
            return None

        async def save(self, position: JournalPosition, journal: str | None) -> None:
            """Nothing is kept."""

    journal = MemoryJournal()
    for one in steps:
        await journal.append(encode_step(one))
    publisher = Publisher(0, journal, Outputs(), Progress())
    end = JournalPosition(0, 0) if offered else JournalPosition(len(steps), len(steps))
    await publisher.start(JournalPosition(0, 0), end, unknown if router is None else router.task)
    for offset, one in enumerate(steps if offered else ()):
        assert publisher.offer(offset, one)
    await publisher.stop()
    return arrived


def unknown(pool: str, task_id: str) -> TaskRow | None:
    """No task is unfinished."""


def routed(arrived: Sequence[Outgoing]) -> list[bytes]:
    """Give the values on `task.routed`."""
    return [one.record.value for one in arrived if one.topic == "task.routed"]


@pytest.mark.rule("amend.44")
async def test_a_dispatcher_needs_no_second_source() -> None:
    """Of a task that waited: title, ref, labels, payload and the rest as sent, and where it runs."""
    rig = RouterRig()
    more: dict[str, Any] = {"title": "Fix it", "ref": "https://git.example/i/17?x=%41#top", "labels": {"team": "docs"}}
    more |= {"tenant_id": "acme", "agent_role": "editor", "task_type": "code", "input_tokens": 1800}
    rig.hand_in(sent(deadline="2026-11-22T10:00:00Z", **more))
    rig.hand_in(slot("haiku-1", account="acct-1"))
    (value,) = routed(await published(rig.steps, rig.router))
    assert value.endswith(b',"payload":' + COMPACT.encode() + b"}"), "byte for byte, but for space between its parts"
    read = read_output(TASK_ROUTED, value)
    assert isinstance(read, TaskRouted)
    assert read.payload == COMPACT, "a dispatcher reads it as it was sent"
    body = json.loads(value)
    assert {name: body[name] for name in more} == more
    assert (body["deadline"], body["account"], body["provider"]) == ("2026-11-22T10:00:00Z", "acct-1", "anthropic")


@pytest.mark.rule("amend.44")
async def test_a_payload_is_in_the_journal_once_and_in_the_audit_never() -> None:
    """Whatever becomes of the task: it waits, is tried until it is given up, and its dead letter has it again."""
    rig = RouterRig(book=rulebook(attempts={"failures_max": 3, "back_off_s": 0.0}))
    rig.hand_in(sent())
    rig.hand_in(slot("haiku-1"))
    for lease in (1, 2, 3):
        rig.hand_in(freed("haiku-1", lease, "t-1", "failure"))
    assert rig.steps[-1].dead
    records = [encode_step(one) for one in rig.steps]
    assert sum(record.count(MARK.encode()) for record in records) == 1
    assert MARK not in "".join(repr(read_audit_step(record)) for record in records)
    arrived = await published(rig.steps, rig.router)
    assert [value.count(MARK.encode()) for value in routed(arrived)] == [1, 1, 1]
    (dead,) = [one.record.value for one in arrived if one.topic == "task.pending.dlq"]
    assert b'"payload":' + COMPACT.encode() + b"}" in dead


@pytest.mark.rule("amend.44")
@pytest.mark.parametrize("offered", [True, False], ids=["while it works", "after a restart"])
async def test_what_a_task_carried_is_found_when_the_task_is_over(*, offered: bool) -> None:
    """The state has forgotten it before it is published: the step that accepted it has not, fenced steps between."""
    rig = RouterRig()
    rig.hand_in(sent("a"), sent("b", '"b"'))
    rig.hand_in(slot("haiku-1"))
    rig.hand_in(freed("haiku-1", 1, "a"))
    rig.hand_in(freed("haiku-1", 2, "b"))
    assert rig.router.task("main", "a") is rig.router.task("main", "b") is None
    first, second = routed(await published(rig.steps, rig.router, offered=offered))
    assert (COMPACT.encode() in first, b'"payload":"b"}' in second) == (True, True)


async def test_an_id_that_is_used_again_has_its_own_payload() -> None:
    """What is looked for is the event of one acceptance, not the latest one of that id."""
    rig = RouterRig()
    rig.hand_in(sent("a", '"old"'))
    accepted = rig.steps[0].tasks[0]
    finder = EventFinder(0, MemoryJournal())
    finder.find = lambda _pool, _task_id: accepted
    row = TaskRow(task=accepted.task, at_ms=Millis(START_MS), status=accepted.status, accepted_seq=5)
    dead = Step(partition=0, seq=8, now_ms=Millis(START_MS), policy="p", catalog="c", dead=(row,))
    assert await finder.of(dead, 8) == {}, "the journal is empty, and the one that is unfinished is another"


@pytest.mark.parametrize("fenced", [0, 5, 400])
async def test_the_accepting_step_is_found_behind_fenced_ones(fenced: int) -> None:
    """Records of a worker that had lost its partition push it back; the first record with its number counts."""
    rig = RouterRig()
    rig.hand_in(sent("a"))
    accepting = rig.steps[0]
    journal = MemoryJournal()
    zombie = Step(partition=0, seq=0, now_ms=accepting.now_ms, policy="z", catalog="z")
    for one in (accepting, *[zombie] * fenced, *(step(seq) for seq in range(1, 4))):
        await journal.append(encode_step(one))
    row = accepting.tasks[0]
    dead = Step(partition=0, seq=4, now_ms=accepting.now_ms, policy="p", catalog="c", dead=(row,))
    found = await EventFinder(0, journal).of(dead, journal.log.end)
    assert [event.payload for event in found.values()] == [COMPACT]


async def test_a_journal_that_was_cut_leaves_the_payload_out_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Retention took the accepting step of a task that is over: the decision is published all the same."""
    rig = RouterRig()
    rig.hand_in(sent("a"))
    rig.hand_in(slot("haiku-1"))
    rig.hand_in(freed("haiku-1", 1, "a"))
    journal = MemoryJournal(Log())
    for one in rig.steps:
        await journal.append(encode_step(one))
    journal.log.cut(1)
    finder = EventFinder(0, journal)
    with caplog.at_level(logging.WARNING):
        assert await finder.of(rig.steps[1], 1) == {}
    assert "step 0 carried is published without, because the journal does not hold it any more" in caplog.text
    assert MARK not in caplog.text


@pytest.mark.rule("amend.44", "policy.service")
def test_a_payload_above_the_policys_limit_is_a_dead_letter_with_the_reason() -> None:
    """Its bytes count without the space between its parts; the next byte is too much."""
    rig = RouterRig(book=rulebook(service={"payload_bytes_max": 8}))
    assert (
        rig.hand_in(sent("a", '[1, 2, "é"]')).rejected[0].reason.startswith("payload has 10 bytes, and 8 are allowed")
    )
    assert rig.hand_in(sent("b", "[ 1,  2,  3 ]")).rejected == ()


def test_a_snapshot_keeps_what_tasks_carry() -> None:
    """A router that begins with it hands the same bytes on."""
    rig = RouterRig()
    rig.hand_in(sent("a", ref="x", labels={"k": "v"}))
    restored = Router.restore(0, rig.book, list(rig.router.snapshot()))
    assert restored.task("main", "a") == rig.router.task("main", "a")
    (decision,) = restored.handle(inputs(slot("haiku-1"), now_ms=rig.now_ms)).decisions
    assert decision.accepted_seq == 0


REFUSED = {
    "a ref with a space": ({"ref": "a b"}, "field ref: expected a URI reference"),
    "a ref that ends in a newline": ({"ref": "a\n"}, "field ref: expected a URI reference"),
    "an empty ref": ({"ref": ""}, "field ref: expected a URI reference"),
    "a ref of 2,049": ({"ref": "x" * 2049}, "field ref: expected str of length <= 2048"),
    "33 labels": ({"labels": {f"k{i}": "" for i in range(33)}}, "field labels: expected object of length <= 32"),
    "a label's name of 65": (
        {"labels": {"a": "", "k" * 65: ""}},
        "a key of field labels: expected str of length <= 64, found 'kkk",
    ),
    "a label that is a number": ({"labels": {"a": 1}}, "field labels: expected every value to be str"),
    "a label of 257": ({"labels": {"a": "v" * 257}}, "field labels: expected every value to be str of length <= 256"),
    "NUL within the payload": ({"payload": {"a": ["\0"]}}, "holds the character NUL"),
    "a payload that is too deep": ({"payload": json.loads("[" * 32 + "]" * 32)}, "nested deeper than 32"),
}


@pytest.mark.rule("amend.44")
@pytest.mark.parametrize(("fields", "want"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_passed_on_is_refused(fields: dict[str, Any], want: str) -> None:
    """With a sentence that names it."""
    value = json.dumps({"task_id": "t", "pool": "main", "at": AT, **fields}).encode()
    read = read_event(TASK_PENDING, b"main", value, ())
    assert isinstance(read, Unreadable)
    assert want in read.reason
    assert read.reason.isascii()


@pytest.mark.rule("amend.44")
@pytest.mark.parametrize("payload", ["0", "false", '""', "[]", "{}", '"\\u2028"', "1e-400", "[" * 30 + "]" * 30])
def test_any_json_is_a_payload(payload: str) -> None:
    """What is empty or false, too."""
    assert sent(payload=payload).payload == payload


def test_null_is_no_payload() -> None:
    """As with every optional field."""
    assert sent(payload="null") == sent(payload="  null ") == TaskPending(task_id="t-1", pool="main", at=AT)
