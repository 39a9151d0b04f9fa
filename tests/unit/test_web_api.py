"""What the HTTP API answers, with a router behind it that decides at once: tasks, slots, reads, route and events."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from schemas.codec import read_event
from schemas.input import Unreadable
from streams.operate.orders import Position, Submitted
from streams.web.application import application
from tests.support.partition_world import until
from tests.support.web_rig import WebRig

TASK = {"task_id": "t-1", "pool": "main", "title": "Fix typo"}
SLOT = {"slot_id": "s-1", "pool": "main", "model": "haiku"}


async def fleet(rig: WebRig) -> None:
    """Announce a slot."""
    assert (await rig.ask("POST", "/slots", SLOT, role="dispatcher")).status == 202


async def test_a_task_goes_its_way_over_http() -> None:
    """Submitted, waiting, routed to the slot that asks for it, freed with its outcome, finished."""
    rig = WebRig()
    assert (await rig.ask("POST", "/tasks", TASK, role="producer")).json == {"acknowledged": 1, "partitions": {"0": 1}}
    read = await rig.ask("GET", "/tasks/t-1", role="producer")
    assert (read.json["state"], read.json["decision"]["outcome"]) == ("waiting", "waiting")
    assert (await rig.ask("GET", "/waiting", role="reader")).json["total"] == 1
    await fleet(rig)
    work = await rig.ask("GET", "/tasks/next?slot=s-1", role="dispatcher")
    assert (work.status, work.json["task_id"], work.json["lease"], work.json["title"]) == (200, "t-1", 1, "Fix typo")
    again = await rig.ask("GET", "/tasks/next?slot=s-1", role="dispatcher")
    assert again.body == work.body, "at least once"
    slots = (await rig.ask("GET", "/slots", role="reader")).json["slots"]
    assert [(one["slot_id"], one["state"], one["task_id"]) for one in slots] == [("s-1", "leased", "t-1")]
    renewed = await rig.ask("POST", "/slots/s-1/renew", {"pool": "main", "lease": 1}, role="dispatcher")
    assert (renewed.status, renewed.json["current"]) == (202, True)
    done = {"pool": "main", "lease": 1, "outcome": {"task_id": "t-1", "status": "success"}}
    assert (await rig.ask("POST", "/slots/s-1/freed", done, role="dispatcher")).status == 202
    read = await rig.ask("GET", "/tasks/t-1?wait_for=finished&wait_s=5", role="producer")
    assert read.json["state"] == "finished"
    assert [one["outcome"] for one in read.json["decisions"]] == ["waiting", "routed"]
    assert (await rig.ask("GET", "/tasks/next?slot=s-1&wait_s=0", role="dispatcher")).status == 204
    newest = (await rig.ask("GET", "/decisions?outcome=routed", role="reader")).json["decisions"]
    assert [(one["task_id"], one["model"]) for one in newest] == [("t-1", "haiku")]
    assert (await rig.ask("GET", "/fleet", role="reader")).json["pools"][0]["models"][0]["model"] == "haiku"


async def test_a_lease_that_was_freed_here_is_not_answered_again() -> None:
    """Although the journal does not have it yet."""
    rig = WebRig()
    await fleet(rig)
    await rig.ask("POST", "/tasks", TASK, role="producer")
    rig.web.freed["main", "s-1"] = 1
    assert (await rig.ask("GET", "/tasks/next?slot=s-1&wait_s=0", role="dispatcher")).status == 204
    del rig.web.freed["main", "s-1"]
    assert (await rig.ask("GET", "/tasks/next?slot=s-1&wait_s=0&after=1", role="dispatcher")).status == 204
    assert (await rig.ask("GET", "/tasks/next?slot=s-1&wait_s=0", role="dispatcher")).status == 200


async def test_the_work_of_a_slot_is_known_without_its_decision() -> None:
    """After a restart, from a checkpoint: the same lease, limits and task."""
    rig = WebRig()
    await fleet(rig)
    await rig.ask("POST", "/tasks", {**TASK, "payload": {"a": 1}}, role="producer")
    whole = (await rig.ask("GET", "/tasks/next?slot=s-1", role="dispatcher")).json
    rig.following._of_task.clear()
    rows = (await rig.ask("GET", "/tasks/next?slot=s-1", role="dispatcher")).json
    assert {name for name in whole if whole[name] != rows.get(name)} == {"reason"}


async def test_who_waits_for_a_task_is_answered_when_it_comes() -> None:
    """The long poll ends with the routing, and a slot that is not there is said."""
    rig = WebRig()
    await fleet(rig)
    waiting = asyncio.create_task(rig.ask("GET", "/tasks/next?slot=s-1&wait_s=20", role="dispatcher"))
    await asyncio.sleep(0)
    await rig.ask("POST", "/tasks", TASK, role="producer")
    assert (await waiting).json["task_id"] == "t-1"
    missing = await rig.ask("GET", "/tasks/next?slot=s-9&wait_s=0", role="dispatcher")
    assert (missing.status, "has no slot s-9" in missing.json["detail"]) == (404, True)


async def test_a_list_is_taken_whole_or_not_at_all() -> None:
    """Each refusal is said with its place and the sentence of a dead letter."""
    rig = WebRig()
    tasks = [{**TASK, "task_id": f"t-{number}"} for number in range(3)]
    assert (await rig.ask("POST", "/tasks", tasks, role="producer")).json["acknowledged"] == 3
    bad = {"task_id": "t-9", "pool": "main", "at": "2026-11-21T10:00:00.000Z", "priority": 101}
    reply = await rig.ask("POST", "/tasks", [{**TASK, "task_id": "t-8"}, bad], role="producer")
    refusal = read_event("task.pending", b"main", json.dumps(bad).encode(), ())
    assert isinstance(refusal, Unreadable)
    assert reply.status == 422
    assert reply.json["errors"] == [{"index": 1, "detail": refusal.reason}]
    assert (await rig.ask("GET", "/tasks/t-8", role="producer")).status == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"[", b"{", b"null", b"[1]", b"{}", b"[" * 3000, b'{"a":' * 40 + b"1" + b"}" * 40, b"\xff", b"[\xff]"],
)
async def test_a_body_that_is_no_task_is_refused_with_a_sentence(body: bytes) -> None:
    """Whatever its bytes are."""
    reply = await WebRig().ask("POST", "/tasks", body, role="producer")
    assert (reply.status, reply.headers["content-type"]) == (422, "application/problem+json")
    assert reply.json["detail"]


async def test_the_same_task_twice_is_one() -> None:
    """A request may be sent again."""
    rig = WebRig()
    for _ in range(3):
        assert (await rig.ask("POST", "/tasks", TASK, role="producer")).status == 202
    assert (await rig.ask("GET", "/waiting", role="reader")).json["total"] == 1


async def test_a_cancelled_task_ends() -> None:
    """Its state says so."""
    rig = WebRig()
    await rig.ask("POST", "/tasks", TASK, role="producer")
    assert (await rig.ask("DELETE", "/tasks/t-1", role="producer")).status == 202
    read = (await rig.ask("GET", "/tasks/t-1", role="producer")).json
    assert (read["state"], read["ended"]) == ("finished", "cancelled")


async def test_an_outage_is_a_503_with_a_sentence() -> None:
    """Of the broker, and of the journal."""
    rig = WebRig()
    rig.producer.away = True
    reply = await rig.ask("POST", "/tasks", TASK, role="producer")
    assert (reply.status, "did not acknowledge" in reply.json["detail"]) == (503, True)
    rig.following.trouble = "The journal is away."
    for path in ("/waiting", "/fleet", "/slots", "/decisions", "/tasks/t-1"):
        reply = await rig.ask("GET", path, role="reader")
        assert (reply.status, "The journal is away." in reply.json["detail"]) == (503, True)
    assert (await rig.ask("GET", "/health/ready")).status == 503
    assert (await rig.ask("GET", "/health/live")).status == 200


async def route(rig: WebRig, body: Any) -> Any:
    """Ask where a task would go."""
    return await rig.ask("POST", "/route", body, role="reader")


async def test_the_same_state_and_body_give_the_same_bytes_and_leave_no_trace() -> None:
    """Asked before and after, and on another application with the same history."""
    rig = WebRig()
    await fleet(rig)
    router = rig.following.partitions[0].router
    before = list(router.snapshot())
    found = [await route(rig, {"task": {"requires": {"coding": 4}}}) for _ in range(3)]
    assert found[0].status == 200, found[0].body
    assert len({one.body for one in found}) == 1
    assert found[0].json["recorded"] is False
    assert (found[0].json["decision"]["outcome"], found[0].json["decision"]["slot_id"]) == ("routed", "s-1")
    assert list(router.snapshot()) == before


async def test_a_fleet_in_the_body_needs_no_state() -> None:
    """Two applications that know nothing answer alike; the time is the task's."""
    body = {"task": {"requires": {"coding": 7}}, "fleet": [{"model": "haiku"}, {"model": "sonnet", "slot_id": "mine"}]}
    replies = []
    for _ in range(2):
        rig = WebRig()
        rig.following.trouble = "away"
        replies.append(await route(rig, body))
    assert replies[0].body == replies[1].body
    assert (replies[0].json["state"], replies[0].json["decision"]["slot_id"]) == (None, "mine")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "field task"),
        ({"task": 1}, "field task"),
        ({"task": {"pool": 1}, "fleet": [{"model": "haiku"}]}, "field task.pool"),
        ({"task": {}}, "has no slots"),
        ({"task": {}, "fleet": []}, "field fleet"),
        ({"task": {}, "fleet": [1]}, "field fleet[0]"),
        ({"task": {}, "fleet": [{"model": "no-such"}]}, "no-such"),
        ({"task": {"at": "soon"}, "fleet": [{"model": "haiku"}]}, "at"),
        ({"task": {"at": "2026-11-21"}, "fleet": [{"model": "haiku"}]}, "at"),
        ({"task": {"at": "0000-01-01T00:00:00Z"}, "fleet": [{"model": "haiku"}]}, "at"),
        ({"task": {"priority": 101}, "fleet": [{"model": "haiku"}]}, "priority"),
        ({"task": {"pool": ""}, "fleet": [{"model": "haiku"}]}, "pool"),
        ({"task": {"not_before": "9999-12-31T23:59:59Z"}, "fleet": [{"model": "haiku"}]}, ""),
    ],
)
async def test_a_question_that_cannot_be_asked_is_refused(body: Any, says: str) -> None:
    """With what is wrong."""
    reply = await route(WebRig(), body)
    assert reply.status == 422, reply.body
    assert says in reply.json["detail"]


async def test_an_order_is_checked_by_the_code_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """`by` is the token's name, whatever the body says."""
    seen: list[Any] = []

    def submit(_settings: Any, event: Any, *, wait_s: float | None) -> Submitted:
        seen.append((event.model, event.by, wait_s))
        position = Position(partition=0, offset=7, status="taken")
        return Submitted(
            control_id="c", kind="model.drained", topic="t", at=event.at, by=event.by, pool=None, positions=(position,)
        )

    async def away(*_: Any) -> Any:
        raise KafkaConnectionError

    monkeypatch.setattr("streams.web.routes.controls.submit", submit)
    monkeypatch.setattr("streams.operate.orders.read_partitions", away)
    drain = {"kind": "model.drained", "model": "opus", "by": "the boss"}
    reply = await WebRig().ask("POST", "/controls?wait_s=3", drain, role="operator")
    assert (reply.status, reply.json["positions"][0]["offset"]) == (200, 7)
    assert seen == [("opus", "a-operator", 3.0)]
    reply = await WebRig().ask("POST", "/controls", {"kind": "model.drained", "model": "nope"}, role="operator")
    assert (reply.status, "control_id" in reply.json["detail"], len(seen)) == (503, True, 1)
    reply = await WebRig().ask("POST", "/controls", {"kind": "tick"}, role="operator")
    assert (reply.status, "tick" in reply.json["detail"]) == (422, True)
    reply = await WebRig().ask("POST", "/controls", {"kind": "model.broken"}, role="operator")
    assert reply.status == 422


async def test_the_stream_has_what_is_decided_and_finished() -> None:
    """From `ready` on, of one pool or kind; it ends with the server."""
    rig = WebRig()
    await fleet(rig)
    listening = asyncio.create_task(rig.ask("GET", "/events?pool=main", role="reader"))
    await until(lambda: rig.following.listeners == 1)
    await rig.ask("POST", "/tasks", TASK, role="producer")
    done = {"pool": "main", "lease": 1, "outcome": {"task_id": "t-1", "status": "success"}}
    await rig.ask("POST", "/slots/s-1/freed", done, role="dispatcher")
    await rig.ask("POST", "/tasks", {**TASK, "pool": "other"}, role="producer")
    rig.web.stop.set()
    text = (await listening).body.decode()
    assert [line[7:] for line in text.splitlines() if line.startswith("event: ")] == ["ready", "routed", "finished"]
    assert rig.following.listeners == 0


def test_the_description_says_who_may_use_what() -> None:
    """OpenAPI 3.1, with bodies of the wire contract and no reference that leads nowhere."""
    described = application(WebRig().web).openapi()
    assert described["openapi"].startswith("3.1")
    text = json.dumps(described)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(described["components"]["schemas"])
    assert "#/$defs" not in text
    assert described["paths"]["/tasks"]["post"]["x-roles"] == ["producer"]
