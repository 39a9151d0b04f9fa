"""What the HTTP API answers, with a router behind it that decides at once: tasks, slots, reads, route and events."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError

from schemas.codec import read_event
from schemas.events import TaskFinished, WorkCancelled
from schemas.input import Unreadable
from schemas.vocabulary import from_millis
from streams.clock import SystemClock
from streams.core.router import Router
from streams.database.connection import DatabaseError
from streams.operate.orders import Position, Submitted
from streams.shipped import file_rulebook
from streams.views.lane_state import LaneLine
from streams.views.overview import RecoveredPartition
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
    rig.producer.decides = False
    done = {"pool": "main", "lease": 1, "outcome": {"task_id": "t-1", "status": "success"}}
    assert (await rig.ask("POST", "/slots/s-1/freed", done, role="dispatcher")).status == 202
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
    assert rig.producer.taken[-1].by == "a-producer"
    read = (await rig.ask("GET", "/tasks/t-1", role="producer")).json
    assert (read["state"], read["ended"]) == ("finished", "cancelled")


async def test_an_outage_is_a_503_with_a_sentence() -> None:
    """Of the broker, and of the journal."""
    rig = WebRig()
    rig.producer.away = True
    reply = await rig.ask("POST", "/tasks", TASK, role="producer")
    assert (reply.status, "did not acknowledge" in reply.json["detail"]) == (503, True)
    rig.following.trouble = "The journal is away."
    for path in ("/waiting", "/fleet", "/slots", "/decisions", "/tasks/t-1", "/api/lag"):
        reply = await rig.ask("GET", path, role="reader")
        assert (reply.status, "The journal is away." in reply.json["detail"]) == (503, True)
    assert (await rig.ask("GET", "/health/ready")).status == 503
    assert (await rig.ask("GET", "/health/live")).status == 200


async def test_probes_say_what_is_known() -> None:
    """Live: it answers. Startup: the state was read once. Ready: it is known now."""

    async def probes(rig: WebRig) -> list[int]:
        return [(await rig.ask("GET", f"/health/{one}")).status for one in ("live", "startup", "ready")]

    rig = WebRig()
    assert await probes(rig) == [200, 200, 200]
    rig.following.trouble = "The journal is away."
    assert await probes(rig) == [200, 200, 503]
    rig.following.partitions.clear()
    assert await probes(rig) == [200, 503, 503]


def lane(name: str, state: Any) -> LaneLine:
    """Make a lane as the audit has it."""
    return LaneLine(
        lane=name, state=state, decisions=1, routed=1, router_errors=0, router_error_share=0.0, fallbacks=0,
        fallback_share=0.0, last_decided_at="2026-11-21T10:05:00.000Z", restarted_at=None,
    )  # fmt: skip


async def test_health_is_that_of_the_worst_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the audit's view has the lanes; without an audit it is not known, and why."""
    for states, worst in (
        (["idle", "healthy"], "healthy"),
        (["healthy", "elevated_fallback", "idle"], "elevated_fallback"),
        (["degraded", "elevated_fallback"], "degraded"),
        ([], "idle"),
    ):
        lanes = tuple(lane(f"l-{number}", state) for number, state in enumerate(states))
        monkeypatch.setattr("streams.web.routes.health.lanes", lambda *_, found=lanes: found)
        health = (await WebRig().ask("GET", "/health", role="reader")).json
        assert (health["state"], health["lanes"]) == (worst, [msgspec.to_builtins(one) for one in lanes])
        assert health["audit"]["ready"]

    def away(*_: Any) -> Any:
        raise DatabaseError("Postgres is away.")

    monkeypatch.setattr("streams.web.routes.health.lanes", away)
    health = (await WebRig().ask("GET", "/health", role="reader")).json
    assert (health["state"], health["audit"]) == (None, {"ready": False, "problem": "Postgres is away."})


async def route(rig: WebRig, body: Any) -> Any:
    """Ask where a task would go."""
    return await rig.ask("POST", "/route", body, role="reader")


async def test_the_same_state_and_body_give_the_same_bytes_and_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again and again, an hour later, and on another application with the same state."""
    rig = WebRig()
    await fleet(rig)
    router = rig.following.partitions[0].router
    before = list(router.snapshot())
    body = {"task": {"requires": {"coding": 4}}}
    found = [await route(rig, body) for _ in range(2)]
    other = WebRig()
    restored = Router.restore(0, file_rulebook(other.settings), before)
    other.following.partitions[0] = RecoveredPartition(router=restored)
    hour_later_ms = SystemClock().now_ms() + 3_600_000
    monkeypatch.setattr("streams.clock.SystemClock.now_ms", lambda _: hour_later_ms)
    found += [await route(rig, body), await route(other, body)]
    assert found[0].status == 200, found[0].body
    assert len({one.body for one in found}) == 1
    assert found[0].json["recorded"] is False
    assert found[0].json["state"]["at"] == from_millis(router.now_ms)
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


async def test_who_runs_work_learns_that_it_is_to_stop() -> None:
    """Cancelled, lost with its lease, or retired with its slot: in the answer of a renewal and by the long poll."""
    rig = WebRig()
    await fleet(rig)
    await rig.ask("POST", "/tasks", TASK, role="producer")
    running = "/tasks/next?slot=s-1&running=1&wait_s="
    assert (await rig.ask("GET", f"{running}0", role="dispatcher")).status == 204
    waiting = asyncio.create_task(rig.ask("GET", f"{running}20", role="dispatcher"))
    await asyncio.sleep(0)
    await rig.ask("DELETE", "/tasks/t-1", role="producer")
    assert (await waiting).json == {"pool": "main", "slot_id": "s-1", "lease": 1, "reason_code": "cancelled"}
    renewed = await rig.ask("POST", "/slots/s-1/renew", {"pool": "main", "lease": 1}, role="dispatcher")
    assert (renewed.json["current"], renewed.json["stop"]) == (True, "cancelled")
    ended = {"pool": "main", "lease": 1, "outcome": {"task_id": "t-1", "status": "cancelled"}}
    await rig.ask("POST", "/slots/s-1/freed", ended, role="dispatcher")
    assert (await rig.ask("GET", f"{running}0", role="dispatcher")).status == 204, "it is over"

    await rig.ask("POST", "/tasks", {**TASK, "task_id": "t-2"}, role="producer")
    rig.later(86_400)
    lost = await rig.ask("GET", "/tasks/next?slot=s-1&running=2&wait_s=0", role="dispatcher")
    assert lost.json["reason_code"] == "lease_lost"
    gone = await rig.ask("GET", "/tasks/next?slot=s-9&running=2&wait_s=0", role="dispatcher")
    assert gone.json["reason_code"] == "slot_retired"
    behind = await rig.ask("GET", "/tasks/next?slot=s-1&running=9&wait_s=0", role="dispatcher")
    assert behind.status == 204, "a lease that the state does not know yet is not lost"


async def test_a_free_slot_says_that_it_is_there() -> None:
    """The heartbeat keeps it in service, never ends a lease, and has none."""
    rig = WebRig()
    await rig.ask("POST", "/slots", {**SLOT, "ttl_s": 60}, role="dispatcher")
    rig.later(50)
    assert (await rig.ask("POST", "/slots/s-1/idle", {"pool": "main"}, role="dispatcher")).status == 202
    rig.later(50)
    assert (await rig.ask("GET", "/slots", role="reader")).json["slots"][0]["state"] == "free"
    rig.later(61)
    assert (await rig.ask("GET", "/slots", role="reader")).json["slots"][0]["state"] == "lost"
    refused = await rig.ask("POST", "/slots/s-1/idle", {"pool": "main", "lease": 1}, role="dispatcher")
    assert (refused.status, "field lease" in refused.json["detail"]) == (422, True)


class Stream:
    """A reader of `/events`, until the server stops."""

    def __init__(self, rig: WebRig, query: str = "", last: str | None = None) -> None:
        headers = {} if last is None else {"last_event_id": last}
        self._rig = rig
        self._reading = asyncio.create_task(rig.ask("GET", f"/events?{query}", role="dispatcher", **headers))

    async def begun(self) -> Stream:
        """Wait until it listens."""
        await until(lambda: self._rig.following.feed.listeners == 1)
        return self

    async def end(self) -> list[dict[str, str]]:
        """End the server's side; return the events with their ids."""
        self._rig.web.stop.set()
        blocks = (await self._reading).body.decode().strip().split("\n\n")
        self._rig.web.stop.clear()
        found = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
        return [one for one in found if "event" in one]


async def test_the_stream_has_what_is_decided_and_finished() -> None:
    """From `ready` on, of one pool; `finished` is what `task.finished` has, and it ends with the server."""
    rig = WebRig()
    await fleet(rig)
    stream = await Stream(rig, "pool=main").begun()
    await rig.ask("POST", "/tasks", TASK, role="producer")
    done = {"pool": "main", "lease": 1, "outcome": {"task_id": "t-1", "status": "success", "cost_usd": 0.5}}
    await rig.ask("POST", "/slots/s-1/freed", done, role="dispatcher")
    await rig.ask("POST", "/tasks", {**TASK, "pool": "other"}, role="producer")
    events = await stream.end()
    assert [one["event"] for one in events] == ["ready", "routed", "finished"]
    finished = json.loads(events[-1]["data"])
    assert msgspec.convert(finished, TaskFinished) == TaskFinished(
        task_id="t-1", pool="main", status="success", attempts=1, at=finished["at"], cost_usd=0.5, slot_id="s-1",
        model="haiku", decision_id=json.loads(events[1]["data"])["decision_id"],
    )  # fmt: skip
    assert rig.following.feed.listeners == 0


async def test_the_stream_of_a_slot_says_what_concerns_it() -> None:
    """Its tasks, and that its work is to stop, as `task.cancelled` has it."""
    rig = WebRig()
    await fleet(rig)
    stream = await Stream(rig, "slot=s-1").begun()
    await rig.ask("POST", "/tasks", TASK, role="producer")
    await rig.ask("POST", "/tasks", {**TASK, "task_id": "t-2"}, role="producer")
    await rig.ask("DELETE", "/tasks/t-1", role="producer")
    events = await stream.end()
    assert [one["event"] for one in events] == ["ready", "routed", "cancelled"]
    stopped = msgspec.convert(json.loads(events[-1]["data"]), WorkCancelled)
    assert (stopped.task_id, stopped.lease, stopped.reason_code) == ("t-1", 1, "cancelled")


async def test_a_stream_goes_on_where_it_ended() -> None:
    """Nothing is missed or repeated after `Last-Event-ID`, of the filter that it has; what is forgotten is said."""
    rig = WebRig()
    first = await Stream(rig).begun()
    for number in range(3):
        await rig.ask("POST", "/tasks", {**TASK, "task_id": f"t-{number}"}, role="producer")
    ids = {json.loads(one["data"])["task_id"]: one["id"] for one in (await first.end())[1:]}
    assert list(ids) == ["t-0", "t-1", "t-2"]
    again = await (await Stream(rig, last=ids["t-0"]).begun()).end()
    assert [(one["event"], one.get("id")) for one in again] == [
        ("ready", None), ("waiting", ids["t-1"]), ("waiting", ids["t-2"]),
    ]  # fmt: skip
    whole = await (await Stream(rig, last=ids["t-2"]).begun()).end()
    assert [one["event"] for one in whole] == ["ready"]
    # Another process knows the order of one pool, and not how its partitions came together.
    elsewhere = "0" * 8 + ids["t-1"][8:]
    assert [one["event"] for one in await (await Stream(rig, "pool=main", elsewhere).begun()).end()] == [
        "ready",
        "waiting",
    ]
    for last in (elsewhere, "what", ids["t-1"].replace(".0.", ".7.")):
        assert [one["event"] for one in await (await Stream(rig, last=last).begun()).end()] == ["ready", "behind"]
    cut = await Stream(rig).begun()
    rig.following.feed.break_off()
    assert [one["event"] for one in await cut.end()] == ["ready", "behind"]
    lost = await (await Stream(rig, last=ids["t-1"]).begun()).end()
    assert [one["event"] for one in lost] == ["ready", "behind"]


def test_the_description_says_who_may_use_what() -> None:
    """OpenAPI 3.1, with bodies of the wire contract and no reference that leads nowhere."""
    described = application(WebRig().web).openapi()
    assert described["openapi"].startswith("3.1")
    text = json.dumps(described)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(described["components"]["schemas"])
    assert "#/$defs" not in text
    assert described["paths"]["/tasks"]["post"]["x-roles"] == ["producer"]
