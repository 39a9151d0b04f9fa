"""Their side: the same router in a plain aiokafka loop, as a good engineer would write it without a framework.

One consumer on all partitions, batches as they were fetched, one append a partition and batch, the appends of all
partitions under way at the same time, applied when acknowledged. The same reading, the same decisions, the same
journal records and, with `--publish`, the same output records as ours. No fence, no guard against gaps and
duplicates, no recovery, no checkpoint, no rebalance, no table, no metric, no health page.

Run: python -m tests.bench.sides.bare [--publish] [--profile FILE], settings in the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import signal
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.codec import read_event
from schemas.decision import Step
from schemas.input import Input
from schemas.steps import encode_step
from schemas.trace import trace_of
from schemas.vocabulary import INPUT_TOPICS
from streams.clock import SystemClock
from streams.core.router import Router, accept_time
from streams.partition.outputs import output_records
from streams.partition.task_events import TaskEvents
from streams.settings import Settings, load
from streams.shipped import file_rulebook
from streams.topics import names
from tests.bench.profile import write_profile

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

#: As the worker has them.
FETCH_BYTES_MAX: Final = 4_194_304
FETCH_WAIT_MS: Final = 50


class Loop:
    """The whole program."""

    def __init__(self, settings: Settings, *, publish: bool) -> None:
        rulebook = file_rulebook(settings)
        self._settings = settings
        self._names = names(settings)
        self._publish = publish
        self._routers = [Router(partition, rulebook) for partition in range(settings.partitions)]
        self._topics = {name: topic for topic, name in enumerate(self._names.inputs)}

    async def run(self) -> None:
        """Read, decide, append; until cancelled."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.broker,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        journal = self._producer()
        outputs = self._producer(max_batch_size=262_144, linger_ms=2)
        await asyncio.gather(consumer.start(), journal.start(), outputs.start())
        consumer.assign([TopicPartition(name, p) for name in self._topics for p in range(self._settings.partitions)])
        try:
            while True:
                found = await consumer.getmany(timeout_ms=1000)
                if found:
                    await self._batch(found, journal, outputs)
        finally:
            await asyncio.gather(consumer.stop(), journal.stop(), outputs.stop())

    async def _batch(self, found: Any, journal: AIOKafkaProducer, outputs: AIOKafkaProducer) -> None:
        waiting: defaultdict[int, list[tuple[int, ConsumerRecord[bytes, bytes]]]] = defaultdict(list)
        for where, run in found.items():
            topic = self._topics[where.topic]
            waiting[where.partition] += [(topic, record) for record in run]
        while waiting:
            sent = []
            for partition, some in list(waiting.items()):
                router = self._routers[partition]
                step = router.handle(self._inputs(router, some[: self._settings.step_inputs_max]))
                value = encode_step(step)
                sent.append((router, step, await journal.send(self._names.journal, value, partition=partition)))
                waiting[partition] = some[self._settings.step_inputs_max :]
                if not waiting[partition]:
                    del waiting[partition]
            told = []
            for router, step, acknowledged in sent:
                await acknowledged
                router.apply(step)
                if self._publish:
                    for outgoing in output_records(step, self._events(router, step)):
                        record = outgoing.record
                        told.append(
                            await outputs.send(
                                self._names.of(outgoing.topic),
                                record.value,
                                key=record.key,
                                partition=step.partition,
                                headers=list(record.headers),
                            )
                        )
            await asyncio.gather(*told)

    @staticmethod
    def _events(router: Router, step: Step) -> TaskEvents:
        """Of what it routed; all of it runs now."""
        rows = (router.task(one.pool, one.task_id) for one in step.decisions if one.outcome == "routed")
        return {(row.task.pool, row.task.task_id, row.accepted_seq): row.task for row in rows if row is not None}

    def _inputs(self, router: Router, some: list[tuple[int, ConsumerRecord[bytes, bytes]]]) -> list[Input]:
        clock_ms = SystemClock().now_ms()
        now_ms = router.now_ms
        inputs = []
        for topic, record in some:
            event = read_event(INPUT_TOPICS[topic], record.key, record.value, record.headers)
            traceparent, tracestate = trace_of(record.headers)
            now_ms = accept_time(record.timestamp, now_ms, clock_ms, self._settings.now_ahead_ms_max)
            inputs.append(Input(topic, record.offset, now_ms, event, traceparent, tracestate))
        return inputs

    def _producer(self, **options: Any) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self._settings.broker,
            acks="all",
            max_request_size=self._settings.step_bytes_max,
            **options,
        )


async def _main(settings: Settings, *, publish: bool) -> None:
    running = asyncio.ensure_future(Loop(settings, publish=publish).run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with suppress(asyncio.CancelledError):
        await running


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--profile")
    options = parser.parse_args()
    profile = cProfile.Profile()
    signal.signal(signal.SIGPROF, lambda *_: profile.enable())
    asyncio.run(_main(load(os.environ), publish=options.publish))
    profile.disable()
    if options.profile:
        write_profile(profile, options.profile)


if __name__ == "__main__":
    main()
