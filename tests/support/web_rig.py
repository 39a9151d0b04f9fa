"""The HTTP API in memory: a producer whose records a router decides at once, and requests without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from schemas.codec import read_event
from schemas.events import FleetControl, SlotFreed, TaskPending, Tick
from schemas.input import Input, Unreadable
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, Millis, from_millis
from streams.clock import SystemClock
from streams.operate.following import FollowedRouter, Following
from streams.operate.producer import EventProducer, NotTaken, Place
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.views.dead_letters import DeadLetters
from streams.views.lag import report
from streams.views.overview import RecoveredPartition
from streams.views.parts import AuditView, Parts, WorkerView
from streams.web.access import ROLES, Role, Tokens, new_token
from streams.web.application import guarded
from streams.web.pages.now import AuditNow
from streams.web.probe import Probe
from streams.web.state import Web
from tests.support.lags import installation


class Reply(Struct, frozen=True):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class MemoryProducer(EventProducer):
    """Hands each record to the router of the only partition, as a worker would."""

    def __init__(self, settings: Settings, following: Following) -> None:
        super().__init__(settings)
        self._following = following
        self._offsets = [0] * len(INPUT_TOPICS)
        self.away = False
        #: Whether what is acknowledged is decided at once, or not yet.
        self.decides = True
        #: What was sent, oldest first.
        self.taken: list[Any] = []
        #: How far its time is ahead.
        self.ahead_ms = 0

    async def send(self, record: Mapping[str, Any]) -> Place:
        """Decide about a record, in a step of its own."""
        if self.away:
            raise NotTaken("The broker at memory did not acknowledge it: send it again.")
        topic = INPUT_TOPICS.index(record["topic"])
        event = read_event(record["topic"], record.get("key"), record["value"], record["headers"])
        assert not isinstance(event, Unreadable)
        self.taken.append(event)
        if self.decides:
            self.take(topic, event)
        return Place(record["topic"], 0, self._offsets[topic] - 1)

    async def send_all(self, records: Iterable[Mapping[str, Any]]) -> dict[int, int]:
        """Decide about each of the records."""
        places = [await self.send(record) for record in records]
        return {0: len(places)}

    def take(self, topic: int, event: TaskPending | SlotFreed | FleetControl) -> None:
        """Decide about one event."""
        router = self._following.partitions[0].router
        now_ms = Millis(max(SystemClock().now_ms() + self.ahead_ms, router.now_ms))
        router.apply(router.handle([Input(topic, self._offsets[topic], now_ms, event)]))
        self._offsets[topic] += 1
        self._following._wake()


#: What broker and database answer to the pages.
_ANSWERS: dict[str, Any] = {
    "audit": AuditNow(AuditView(), 0.0),
    "workers": Parts(workers=(WorkerView(member="w-1", host="here", partitions=(0,)),)),
    "dead letters": DeadLetters(),
    "lag": report(installation(), installation(at_s=10.0)),
}


def _answering(found: Any) -> Callable[[], Awaitable[Any]]:
    async def ask() -> Any:
        return found

    return ask


class WebRig:
    """An application with a token for each role; `tokens=False`: without tokens, for this machine."""

    def __init__(self, *, tokens: bool = True, client: str = "127.0.0.1", **settings: Any) -> None:
        self.settings = Settings(partitions=1, **settings)
        made = {role: new_token((role,), f"a-{role}") for role in ROLES}
        self.tokens: dict[Role, str] = {role: token for role, (token, _) in made.items()} if tokens else {}
        lines = "\n".join(line for _, line in made.values())
        self.following = Following(self.settings)
        router = FollowedRouter(0, file_rulebook(self.settings))
        router.report = self.following.applied
        self.following.partitions[0] = RecoveredPartition(router=router)
        self.following.trouble, self.following._live = None, True
        self.producer = MemoryProducer(self.settings, self.following)
        self.web = Web(
            self.settings,
            Tokens.read(lines, "tokens") if tokens else Tokens(()),
            self.following,
            self.producer,
            asyncio.Event(),
        )
        for name, found in _ANSWERS.items():
            self.web.probes[name] = Probe(_answering(found), every_s=3600)
        self.app = guarded(self.web)
        self.client = client
        #: Whether the end of a body never comes.
        self.unfinished = False

    def later(self, seconds: float) -> None:
        """Let time pass for the router, and have it notice."""
        self.producer.ahead_ms += int(seconds * 1000)
        now_ms = SystemClock().now_ms() + self.producer.ahead_ms
        self.producer.take(
            INPUT_TOPICS.index(FLEET_CONTROL), Tick(control_id=f"tick-{now_ms}", at=from_millis(now_ms), by="test")
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        role: Role | None = None,
        token: str | None = None,
        **headers: str,
    ) -> Reply:
        """Send a request; `body` is bytes as they are, or is sent as JSON; headers with `_` for `-`."""
        address, _, query = path.partition("?")
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        fields = {"host": "127.0.0.1:6080"}
        if body is not None:
            fields |= {"content-type": "application/json", "content-length": str(len(content))}
        given = self.tokens.get(role) if role is not None else token
        if given is not None:
            fields["authorization"] = f"Bearer {given}"
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": address,
            "raw_path": address.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
            "client": (self.client, 1234),
            "server": ("127.0.0.1", 6080),
        }
        sent: list[dict[str, Any]] = []
        incoming = [{"type": "http.request", "body": content, "more_body": self.unfinished}]

        async def receive() -> Any:
            return incoming.pop() if incoming else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, *rest = sent
        return Reply(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(one.get("body", b"") for one in rest),
        )
