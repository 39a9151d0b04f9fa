"""(f) Milliseconds from sending a task to having its `task.routed`, at half the load that (b) reached.

Tasks are sent by a fixed timetable; latency counts from the timetable, so that a stall is felt by
all that it delays. A fleet frees each slot as soon as a task is routed to it, so each task is two inputs. Counted are
the tasks that found a free slot: those whose wait was never announced. The clock is that of one process, which sends,
receives, plays the fleet, and shares the machine with the broker and the worker.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Struct

from schemas.codec import write_event
from schemas.events import Outcome, SlotFreed, TaskRouted
from schemas.vocabulary import SLOT_FREED, TASK_AWAIT_SLOT, TASK_PENDING, TASK_ROUTED, from_millis
from streams.topics import names
from tests.bench.race import journaling
from tests.bench.report import Finding, at_ms
from tests.bench.stage import PARTITIONS, BenchError, Side, now_ms, producer
from tests.bench.workload import MODELS, SOURCE, Tasks, pools_at_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import AIOKafkaProducer

    from streams.settings import Settings
    from tests.bench.bench import Bench
    from tests.bench.stage import Stage

SLOTS: Final = 1000
#: Shares of (b)'s rate at which it is measured; the goal is about half.
SHARES: Final = (0.1, 0.5)
WARM_S: Final = 5.0
MEASURED_S: Final = 20.0
QUICK_S: Final = 4.0
#: After the last task, for what is still on its way.
TAIL_S_MAX: Final = 20.0
#: Tansu looks for new records only now and then while it waits; the receiver's share of the latency shall be small.
FETCH_WAIT_MS: Final = 10


class Latency(Struct, frozen=True, kw_only=True):
    """What was found at one load."""

    inputs_per_s: float
    tasks: int
    #: Tasks whose wait was announced; they do not count, unless all of them waited.
    waited: int
    #: Tasks of which nothing was heard until the end.
    lost: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    #: How late the timetable itself was kept: what is not the router's fault.
    late_p99_ms: float
    #: Processor time of the worker, the broker and this process, an input.
    worker_us: float
    broker_us: float
    bench_us: float


def measure(bench: Bench) -> list[Finding]:
    """Send at half of what the worker can take."""
    rate = bench.events_per_s
    if rate is None:
        bench.stage.clear()
        rate = journaling("worker, with outputs", "worker", pages=True, outputs=True)(
            bench.stage, bench.load()
        ).events_per_s
    tenth, half = [_at_rate(bench, share * rate) for share in SHARES]
    return [
        Finding.of("f.p99_ms", f"Input to task.routed at {half.inputs_per_s:,.0f} inputs/s, half load: p99",
                   half.p99_ms, "ms", msgspec.to_builtins(half)),
        Finding.of("f.p50_ms", "The same, p50 (no goal)", half.p50_ms, "ms"),
        Finding.of("f.tenth_p99_ms", f"The same at {tenth.inputs_per_s:,.0f} inputs/s, a tenth: p99 (no goal)",
                   tenth.p99_ms, "ms", msgspec.to_builtins(tenth)),
        Finding.of("f.tenth_p50_ms", "The same, p50 (no goal)", tenth.p50_ms, "ms"),
    ]  # fmt: skip


def _at_rate(bench: Bench, inputs_per_s: float) -> Latency:
    bench.stage.clear()
    seconds = QUICK_S if bench.options.quick else MEASURED_S
    settings = bench.stage.settings("latency")
    side = Side(settings, bench.stage.directory, "worker", pages=True)
    side.start()
    try:
        found = asyncio.run(Play(bench.stage, settings, side, inputs_per_s, seconds).run())
    finally:
        side.stop()
    bench.tell(
        f"{found.inputs_per_s:,.0f} inputs/s: p50 {found.p50_ms:.1f} ms, p90 {found.p90_ms:.1f} ms, "
        f"p99 {found.p99_ms:.1f} ms, longest {found.max_ms:.0f} ms; "
        f"the timetable was kept to {found.late_p99_ms:.1f} ms; "
        f"processor an input: worker {found.worker_us:.0f} us, broker {found.broker_us:.0f}, bench {found.bench_us:.0f}"
    )
    if found.lost:
        raise BenchError(f"Of {found.tasks} tasks {found.lost} were neither routed nor announced as waiting.")
    return found


class Play:
    """Producer, fleet and receiver in one."""

    def __init__(self, stage: Stage, settings: Settings, side: Side, inputs_per_s: float, seconds: float) -> None:
        self._stage = stage
        self._settings = settings
        self._side = side
        self._tasks_per_s = inputs_per_s / 2
        self._seconds = seconds
        known = names(settings)
        self._pending, self._freed = known.of(TASK_PENDING), known.of(SLOT_FREED)
        self._routed, self._await = known.of(TASK_ROUTED), known.of(TASK_AWAIT_SLOT)
        self._pools = pools_at_home(PARTITIONS)
        self._sources = [Tasks(pool, seed=partition) for partition, pool in enumerate(self._pools)]
        self._decoder = msgspec.json.Decoder(TaskRouted)
        #: task -> when the timetable had it sent, in seconds of the performance counter.
        self._sent: dict[str, float] = {}
        self._latency_s: dict[str, float] = {}
        self._waited: set[str] = set()
        self._late_s: list[float] = []
        self._futures: list[Any] = []

    async def run(self) -> Latency:
        """Announce the fleet, warm up, measure."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.broker,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        async with producer(self._settings) as client:
            await consumer.start()
            consumer.assign(
                [TopicPartition(name, p) for name in (self._routed, self._await) for p in range(PARTITIONS)]
            )
            receiving = asyncio.create_task(self._receive(consumer, client))
            try:
                await self._announce(client)
                await self._send(client, WARM_S)
                await self._until_quiet()
                self._sent, self._latency_s, self._waited, self._late_s = {}, {}, set(), []
                before_s = self._cpu_s()
                await self._send(client, self._seconds)
                cpu_s = [after - before for after, before in zip(self._cpu_s(), before_s, strict=True)]
                await self._until_quiet()
            finally:
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)
                await consumer.stop()
        return self._found(cpu_s)

    async def _announce(self, client: AIOKafkaProducer) -> None:
        for partition, pool in enumerate(self._pools):
            at_ms = now_ms()
            for slot in range(SLOTS):
                event = SlotFreed(
                    slot_id=f"slot-{slot}", pool=pool, at=from_millis(at_ms), model=MODELS[slot % len(MODELS)]
                )
                await self._write(client, SLOT_FREED, self._freed, partition, event, at_ms)
        await asyncio.gather(*self._futures)
        self._futures.clear()

    async def _send(self, client: AIOKafkaProducer, seconds: float) -> None:
        """Keep the timetable: what is due is sent at once, and never sooner."""
        start_s = time.perf_counter()
        count = int(seconds * self._tasks_per_s)
        for number in range(count):
            due_s = start_s + number / self._tasks_per_s
            if (ahead_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(ahead_s)
            at_ms = now_ms()
            partition = number % PARTITIONS
            task = self._sources[partition].next(at_ms)
            self._sent[task.task_id] = due_s
            self._late_s.append(time.perf_counter() - due_s)
            await self._write(client, TASK_PENDING, self._pending, partition, task, at_ms)
            if number % 20 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*self._futures)
        self._futures.clear()

    async def _write(
        self, client: AIOKafkaProducer, topic: str, name: str, partition: int, event: Any, at_ms: int
    ) -> None:
        record = write_event(topic, event, ce_id=f"{partition}-{at_ms}", source=SOURCE, time_ms=at_ms)
        self._futures.append(
            await client.send(
                name,
                record.value,
                key=record.key,
                partition=partition,
                timestamp_ms=at_ms,
                headers=list(record.headers),
            )
        )

    async def _receive(self, consumer: AIOKafkaConsumer, client: AIOKafkaProducer) -> None:
        """Take the time of what is routed, and free its slot."""
        while True:
            for where, records in (await consumer.getmany(timeout_ms=100)).items():
                heard_s = time.perf_counter()
                for record in records:
                    if where.topic == self._await:
                        self._waited.add(msgspec.json.decode(record.value)["task_id"])
                        continue
                    routed = self._decoder.decode(record.value)
                    sent_s = self._sent.get(routed.task_id)
                    if sent_s is not None:
                        self._latency_s.setdefault(routed.task_id, heard_s - sent_s)
                    at_ms = now_ms()
                    event = SlotFreed(
                        slot_id=routed.slot_id,
                        pool=routed.pool,
                        at=from_millis(at_ms),
                        lease=routed.lease,
                        outcome=Outcome(task_id=routed.task_id, status="success", output_tokens=500),
                    )
                    await self._write(client, SLOT_FREED, self._freed, where.partition, event, at_ms)

    async def _until_quiet(self) -> None:
        """Wait for what is still on its way."""
        deadline_s = time.monotonic() + TAIL_S_MAX
        while time.monotonic() < deadline_s and self._sent.keys() - self._latency_s.keys() - self._waited:
            self._side.require_alive()
            await asyncio.sleep(0.05)

    def _cpu_s(self) -> tuple[float, float, float]:
        return self._side.cpu_s(), self._stage.cpu_s(), time.process_time()

    def _found(self, cpu_s: Sequence[float]) -> Latency:
        good = sorted(s for task_id, s in self._latency_s.items() if task_id not in self._waited)
        # A worker that does not keep up has no slot free for anybody: then what waited is all there is to count.
        good = good or sorted(self._latency_s.values())
        if not good:
            raise BenchError("No task was routed.")
        worker_us, broker_us, bench_us = (round(one / (2 * len(self._sent)) * 1e6, 1) for one in cpu_s)
        return Latency(
            inputs_per_s=2 * self._tasks_per_s,
            tasks=len(self._sent),
            waited=len(self._waited),
            lost=len(self._sent.keys() - self._latency_s.keys() - self._waited),
            p50_ms=at_ms(good, 0.5),
            p90_ms=at_ms(good, 0.9),
            p99_ms=at_ms(good, 0.99),
            max_ms=at_ms(good, 1.0),
            late_p99_ms=at_ms(sorted(self._late_s), 0.99),
            worker_us=worker_us,
            broker_us=broker_us,
            bench_us=bench_us,
        )
