"""A live installation without workers: routers in the test write inputs and journals to the topics of a broker."""

from __future__ import annotations

from typing import Self

from aiokafka import AIOKafkaProducer

from schemas.codec import read_event, write_event
from schemas.decision import Step
from schemas.event_id import event_id_of
from schemas.input import Input, Misplaced, Unreadable
from schemas.steps import encode_step
from schemas.trace import trace_of
from schemas.vocabulary import INPUT_TOPICS
from streams.core.router import Router
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.topics import home_of, names
from tests.bench.workload import Churn, pools_at_home
from tests.support.builders import START_MS

SLOTS = 9
BACKLOG = 20


class LiveJournal:
    """One router a partition, with the shipped rules; its steps in memory, too."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = names(settings)
        pools = pools_at_home(settings.partitions)
        assert [home_of(settings.partitions)(pool.encode()) for pool in pools] == list(range(settings.partitions))
        self.routers = {n: Router(n, file_rulebook(settings)) for n in range(settings.partitions)}
        self.steps: dict[int, list[tuple[Step, list[Input]]]] = {n: [] for n in self.routers}
        self._churns = {n: Churn(pool, START_MS, n + 1, whole=True) for n, pool in enumerate(pools)}
        self._ids = 0

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(bootstrap_servers=self.settings.broker, acks="all")
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    @property
    def ends(self) -> dict[int, int]:
        """The last step of each partition."""
        return {n: len(steps) - 1 for n, steps in self.steps.items()}

    async def go_on(self, steps: int) -> None:
        """Take so many steps in each partition."""
        for _ in range(steps):
            for partition, churn in self._churns.items():
                first = not self.steps[partition]
                batch = [*churn.rule(), *churn.announce(SLOTS), *churn.arrive(BACKLOG)] if first else churn.turn(2)
                churn.see(await self._take(partition, batch))

    async def _take(self, partition: int, batch: list[Input]) -> Step:
        inputs = [await self._sent(partition, one) for one in batch]
        router = self.routers[partition]
        step = router.handle(inputs)
        await self._producer.send_and_wait(self.names.journal, encode_step(step), partition=partition)
        router.apply(step)
        self.steps[partition].append((step, inputs))
        return step

    async def _sent(self, partition: int, one: Input) -> Input:
        """Send an input, and return it as it is read from its record."""
        assert not isinstance(one.event, Unreadable | Misplaced)
        self._ids += 1
        topic = INPUT_TOPICS[one.topic]
        record = write_event(topic, one.event, ce_id=f"e-{self._ids}", source="test", time_ms=one.now_ms)
        done = await self._producer.send_and_wait(
            self.names.inputs[one.topic],
            record.value,
            key=record.key,
            partition=partition,
            headers=list(record.headers),
            timestamp_ms=one.now_ms,
        )
        assert done.offset == one.offset, "only this journal's routers write to its topics"
        event = read_event(topic, record.key, record.value, record.headers)
        trace = trace_of(record.headers)
        return Input(one.topic, one.offset, one.now_ms, event, *trace, None, event_id_of(topic, record.headers))
