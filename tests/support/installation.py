"""A whole installation for a test: topics of its own, workers as processes, a fleet that works tasks off, an audit."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from msgspec.structs import asdict, replace

from schemas.codec import write_event
from schemas.events import Event, Outcome, SlotFreed, TaskPending
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, SLOT_FREED, TASK_PENDING, TASK_ROUTED, from_millis
from streams.host import free_port
from streams.kafka.client import Broker
from streams.secret import Dsn
from streams.settings import ENV_PREFIX, Settings
from streams.topics import create_topics, home_of, names
from tests.support.audit import Audit, audit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ROOT = Path(__file__).parents[2]
DEADLINE_S = 150.0
POLL_S = 0.1


async def until(what: str, condition: Callable[[], Awaitable[Any]], deadline_s: float = DEADLINE_S) -> Any:
    """Wait until a condition gives something, and return it; say what never came."""
    end_s = time.monotonic() + deadline_s
    while True:
        found = await condition()
        if found:
            return found
        if time.monotonic() > end_s:
            raise AssertionError(f"waited {deadline_s:.0f} s in vain until {what}")
        await asyncio.sleep(POLL_S)


def environment_of(settings: Settings) -> dict[str, str]:
    """Give this process's environment with these settings, and no others, for another process."""
    defaults = asdict(Settings())
    given = {name: value for name, value in asdict(settings).items() if value != defaults[name]}
    return {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)} | {
        ENV_PREFIX + name.upper(): value.reveal() if isinstance(value, Dsn) else str(value)
        for name, value in given.items()
    }


class Worker:
    """One worker process."""

    def __init__(self, settings: Settings, log_file: Path) -> None:
        self.settings = settings
        self.log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process; it must have been started."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Begin, without waiting."""
        command = [sys.executable, "-m", "streams.worker"]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment_of(self.settings), stdout=log, stderr=log
            )

    async def ready(self, partitions: int | None = None) -> None:
        """Wait until it works, on so many partitions if that is said."""

        async def is_ready() -> bool:
            assert self.process.poll() is None, f"the worker ended: {self.log()}"
            state = await asyncio.to_thread(self.get, "/health/ready")
            return bool(state) and state["ready"] and partitions in {None, len(state["partitions"])}

        await until(f"the worker is ready: {self.log_file}", is_ready)

    def get(self, page: str) -> Any:
        """Return what a page says as JSON; None when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.settings.web_port}{page}", timeout=5) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as refusal:
            return json.load(refusal)
        except OSError:
            return None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process."""
        self.process.send_signal(number)

    async def stop(self) -> int:
        """End it in good order and return its exit code."""
        self.signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 30)

    async def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        await asyncio.to_thread(self.process.wait, 10)

    def log(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-30:])


class Installation:
    """Topics of its own on a broker, and everything a test does with them."""

    def __init__(self, address: str, folder: Path, partitions: int = 2, **settings: Any) -> None:
        unique = f"t{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self.settings = Settings(
            broker=address,
            group=unique,
            topic_prefix=f"{unique}.",
            partitions=partitions,
            session_timeout_s=3.0,
            rebalance_timeout_s=1.0,
            delivery_check_s=0.3,
            **settings,
        )
        self.names = names(self.settings)
        self.home = home_of(partitions)
        self.workers: list[Worker] = []
        self.sent: dict[str, list[str]] = {}
        self._broker = Broker(self.settings)
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(create_topics, self.settings)
        await self._broker.start()
        self._producer = AIOKafkaProducer(bootstrap_servers=self.settings.broker, acks="all", linger_ms=2)
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker._process is not None and worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()
        assert self._producer is not None
        await self._producer.stop()
        await self._broker.stop()

    def worker(self, **changes: Any) -> Worker:
        """Another worker, started."""
        number = len(self.workers)
        settings = replace(self.settings, web_port=free_port(), **changes)
        worker = Worker(settings, self.folder / f"worker-{number}.log")
        self.workers.append(worker)
        worker.start()
        return worker

    # Inputs ---------------------------------------------------------------------------------------------------

    async def send(self, topic: str, value: bytes, key: bytes | None, **record: Any) -> Any:
        """Write one input and wait for its acknowledgement."""
        assert self._producer is not None
        partition = record.pop("partition", None if key is None else self.home(key))
        headers = list(record.pop("headers", ()))
        return await self._producer.send_and_wait(
            self.names.of(topic), value, key=key, partition=partition, headers=headers, **record
        )

    async def task(self, task_id: str, pool: str, **fields: Any) -> None:
        """Send a task that any model can do."""
        await self.event(TASK_PENDING, TaskPending(task_id=task_id, pool=pool, at=_now(), **fields))
        self.sent.setdefault(pool, []).append(task_id)

    async def slot(self, slot_id: str, pool: str, model: str = "haiku", **fields: Any) -> None:
        """Announce a slot, or free it."""
        await self.event(SLOT_FREED, SlotFreed(slot_id=slot_id, pool=pool, at=_now(), model=model, **fields))

    async def event(self, topic: str, event: Event) -> None:
        """Send an event as a producer does."""
        record = write_event(topic, event, ce_id=uuid.uuid4().hex, source="test", time_ms=int(time.time() * 1000))
        await self.send(topic, record.value, record.key, headers=record.headers)

    async def tasks(self, count: int, pools: int, first: int = 0) -> None:
        """Send tasks to several pools, a few at a time."""
        for start in range(first, first + count, 20):
            await asyncio.gather(
                *(self.task(f"t-{n}", f"pool-{n % pools}") for n in range(start, min(start + 20, first + count)))
            )

    async def slots(self, count: int, pools: int) -> None:
        """Announce so many slots in each pool."""
        await asyncio.gather(
            *(self.slot(f"haiku-{pool}-{n}", f"pool-{pool}") for n in range(count) for pool in range(pools))
        )

    @asynccontextmanager
    async def fleet(self) -> AsyncIterator[None]:
        """Slots that finish every task at once, in the background."""
        working = asyncio.create_task(self._work())
        try:
            yield
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working

    async def _work(self) -> None:
        topic = self.names.of(TASK_ROUTED)
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.broker, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, partition) for partition in range(self.settings.partitions)])
            seen: set[str] = set()
            async for record in consumer:
                routed = json.loads(record.value)
                if routed["decision_id"] in seen:
                    continue
                seen.add(routed["decision_id"])
                await self.slot(
                    routed["slot_id"],
                    routed["pool"],
                    lease=routed["lease"],
                    outcome=Outcome(task_id=routed["task_id"], status="success"),
                )
        finally:
            await consumer.stop()

    # What came of it ------------------------------------------------------------------------------------------

    async def records(self, topic: str) -> list[Any]:
        """All records of a topic, partition by partition."""
        found: list[Any] = []
        for partition in range(self.settings.partitions):
            first, end = await self._broker.bounds(topic, partition)
            async with aclosing(self._broker.read(topic, partition, first, end)) as runs:
                async for run in runs:
                    found.extend(run)
        return found

    async def audits(self) -> list[Audit]:
        """What the auditor says of each partition, against what the input topics hold."""
        journal = await self.records(self.names.journal)
        inputs = {topic: await self.records(self.names.of(topic)) for topic in INPUT_TOPICS}
        return [
            audit(
                partition,
                [record.value for record in journal if record.partition == partition],
                {
                    # A tick may be on its way at any moment; it is no input that anyone would miss.
                    topic: [record.offset for record in records if record.partition == partition]
                    if topic != FLEET_CONTROL
                    else []
                    for topic, records in inputs.items()
                },
            )
            for partition in range(self.settings.partitions)
        ]

    async def sound(self) -> list[Audit]:
        """Wait until every input is handled; then nothing may be wrong."""

        async def all_handled() -> list[Audit]:
            found = await self.audits()
            return found if not any("never handled" in problem for one in found for problem in one.problems) else []

        found: list[Audit] = await until(f"all inputs are handled, see {self.folder}", all_handled)
        assert [problem for one in found for problem in one.problems] == []
        return found

    async def worked_off(self) -> list[Audit]:
        """Wait until every task that was sent is finished."""
        wanted = {(pool, task_id) for pool, sent in self.sent.items() for task_id in sent}

        async def finished() -> bool:
            return wanted <= {task for one in await self.audits() for task in one.finished}

        await until(f"{len(wanted)} tasks are finished, see {self.folder}", finished)
        return await self.sound()

    async def published(self) -> dict[str, list[str]]:
        """Decision ids on `task.routed` by pool, each where it came first."""
        found: dict[str, list[str]] = {}
        for record in await self.records(self.names.of(TASK_ROUTED)):
            routed = json.loads(record.value)
            ids = found.setdefault(routed["pool"], [])
            if routed["decision_id"] not in ids:
                ids.append(routed["decision_id"])
        return found

    async def outputs_agree(self, audits: list[Audit]) -> None:
        """Wait until the outputs say what the journal says: every decision, in order per pool."""
        pools = {decision["pool"] for one in audits for decision in one.decisions}
        wanted = {pool: ids for pool in pools if (ids := [i for one in audits for i in one.routed(pool)])}

        async def all_agree() -> bool:
            return await self.published() == wanted

        await until(f"the outputs are those of the journal, see {self.folder}", all_agree)


def _now() -> str:
    return from_millis(int(time.time() * 1000))
