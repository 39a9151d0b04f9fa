"""Where a shadow keeps what it finds: the topic first, then Postgres, with its place in the live journal.

One transaction holds the differences of a batch of steps and the place behind it, so that a place is there with all its
rows. The topic is written before, so it may repeat what a crash has left out of the transaction; ids tell. Steps are
derived one after the other, by twins that begin at the run's own checkpoints: what stands in memory counts only as far
as the place says.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import msgspec
from aiokafka.errors import KafkaError
from psycopg.types.json import Jsonb

from schemas.steps import decode_step
from schemas.vocabulary import from_millis
from streams.clock import SystemClock
from streams.core.router import Router
from streams.database.sql import QUERIES
from streams.kafka.compacted import KafkaCompacted
from streams.kafka.journal import KafkaJournal
from streams.partition.checkpoint import AlternatingCheckpoints
from streams.partition.ports import JournalPosition
from streams.partition.recovery import read_tail, recover
from streams.shadow.input_tail import InputTail
from streams.shadow.own_world import OwnWorld
from streams.shadow.seen_work import seen_work
from streams.shadow.twin import OtherRun, ShadowCannotFollow, Twin
from streams.sinks.guarded import GuardedConnection
from streams.sinks.ports import ConflictError, RetryableError, SinkPosition
from streams.topics import home_of, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

    from schemas.decision import Step
    from schemas.shadow import ShadowDifference
    from streams.core.policy.rulebook import Rulebook
    from streams.kafka.client import Broker
    from streams.replay.work_seen import WorkSeen
    from streams.settings import Settings
    from streams.sinks.ports import JournaledStep

#: Steps after which the event loop runs other tasks: the group's heartbeats among them.
YIELD_STEPS: Final = 20

_log = logging.getLogger(__name__)


class ShadowRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a shadow, and the rules of both sides."""

    run: str
    name: str
    rulebook: Rulebook
    #: Of the workers' files; an activated policy goes before it.
    live: Rulebook
    #: Slots by model, in each pool; None: the live ones, whose moves it takes as given.
    fleet: dict[str, int] | None = None


class Followed(msgspec.Struct):
    """One partition in memory."""

    twin: Twin | OwnWorld
    #: None: it asks for no inputs.
    tail: InputTail | None
    checkpoints: AlternatingCheckpoints
    #: `Twin.changes` at its last checkpoint.
    saved: int = 0

    async def take(self, step: Step) -> list[ShadowDifference]:
        """Take the next step of the live journal."""
        return self.twin.take(step, await self.tail.of(step) if self.tail is not None else ())


class ShadowStore:
    """The store of a follower of the live journal: it derives each step by other rules, and keeps what differs."""

    remedy = "Give `slotwise shadow stop`, and start it again: it begins where the new journal is then."

    def __init__(
        self, settings: Settings, broker: Broker, connection: GuardedConnection, run: ShadowRun, *, name: str
    ) -> None:
        """`name` says in messages which database it writes to."""
        self.name = name
        self._settings = settings
        self._broker = broker
        self._names = names(settings)
        self._connection = connection
        self._run = run
        self._home = home_of(settings.partitions)
        self._followed: dict[int, Followed] = {}
        #: Found since the start of this process, by kind.
        self.found: dict[str, int] = {}

    async def begin(self, partitions: Iterable[int]) -> None:
        """Begin a run: each partition at the end of its journal, with a checkpoint there.

        Raises:
            ShadowCannotFollow: the rules lack models of the fleet.
            JournalError: a journal cannot be trusted.
        """
        fitted_to: list[WorkSeen] | None = None
        for partition in partitions:
            journal = self._journal(partition)

            def make(chunks: Iterable[bytes] | None, partition: int = partition) -> Router:
                live = self._run.live
                return Router(partition, live) if chunks is None else Router.restore(partition, live, chunks)

            live = AlternatingCheckpoints(
                partition, KafkaCompacted(self._broker, self._names, partition), SystemClock()
            )
            found = await recover(partition, journal, live, make)
            rules = (found.machine.rulebook.policy_hash, found.machine.rulebook.catalog_hash)
            if found.decided_by is not None and found.decided_by != rules:
                raise ShadowCannotFollow(
                    f"The workers of partition {partition} decide by policy {found.decided_by[0]} and catalogue "
                    f"{found.decided_by[1]}, and the files here are {rules[0]} and {rules[1]}: name theirs with "
                    "SLOTWISE_POLICY and SLOTWISE_CATALOG."
                )
            named = {"run": self._run.run, "name": self._run.name}
            twin: Twin | OwnWorld
            if self._run.fleet is None:
                twin = Twin.beside(found.machine, self._run.rulebook, **named)
            else:
                if fitted_to is None:
                    numbers = range(self._settings.partitions)
                    fitted_to = await seen_work((number, self._journal(number)) for number in numbers)
                twin = OwnWorld.beside(found.machine, self._run.rulebook, self._run.fleet, fitted_to, **named)
            checkpoints = self._checkpoints(partition)
            await checkpoints.load()
            await checkpoints.save(JournalPosition(found.end, twin.seq), twin.snapshot())
            sha256 = b""
            async with aclosing(journal.read(max(0, found.end - 1), found.end)) as runs:
                async for entries in runs:
                    sha256 = hashlib.sha256(entries[-1].value).digest()
            place = SinkPosition(
                seq=twin.seq - 1, offset=found.end - 1, sha256=sha256, chain=bytes(32), journal_id=found.journal_id
            )
            placed = self._place(partition, place, twin)

            async def put(connection: AsyncConnection[TupleRow], placed: dict[str, Any] = placed) -> None:
                await connection.execute(QUERIES["shadow_place"], placed)

            await self._connection.run(put)

    async def positions(self) -> Mapping[int, SinkPosition]:
        """Return the last step of each partition that the run has compared."""
        return await self._connection.positions("shadow_positions", {"run": self._run.run})

    async def write(self, steps: Sequence[JournaledStep]) -> None:
        """Compare these steps and keep what differs, all or nothing.

        Raises:
            ConflictError: another process of the run was quicker.
            InputsGone: retention has removed inputs of a step.
            ShadowCannotFollow: a model came that the rules lack.
        """
        by_partition: dict[int, list[JournaledStep]] = {}
        for one in steps:
            by_partition.setdefault(one.step.partition, []).append(one)
        try:
            found = [
                difference
                for partition, some in by_partition.items()
                for difference in await self._compare(partition, some)
            ]
            await self._send(found)
            await self._connection.run(lambda connection: self._keep(connection, by_partition, found))
        except BaseException as error:
            # What stands in memory may be ahead of the place: it is made again from there.
            for partition in by_partition:
                await self._forget(partition)
            if isinstance(error, (KafkaError, OSError, TimeoutError)):
                raise RetryableError(f"the broker at {self._settings.broker} does not answer ({error!r})") from error
            raise
        for difference in found:
            self.found[difference.kind] = self.found.get(difference.kind, 0) + 1
        for partition, some in by_partition.items():
            await self._save_if_due(partition, some[-1])

    async def close(self) -> None:
        """Close all connections."""
        for partition in list(self._followed):
            await self._forget(partition)
        await self._connection.close()

    # One batch ---------------------------------------------------------------------------------------------------

    async def _compare(self, partition: int, steps: Sequence[JournaledStep]) -> list[ShadowDifference]:
        followed = await self._at(partition, steps[0])
        found: list[ShadowDifference] = []
        for place, one in enumerate(steps):
            step = decode_step(one.raw)
            found += await followed.take(step)
            if place % YIELD_STEPS == YIELD_STEPS - 1:
                await asyncio.sleep(0)
        return found

    async def _send(self, found: Sequence[ShadowDifference]) -> None:
        """Write differences to the topic, and wait until they are durable there."""
        topic = self._names.differences
        keys = [one.task_id.encode() for one in found]
        sent = [
            await self._broker.send(topic, self._home(key), msgspec.json.encode(one), key=key)
            for key, one in zip(keys, found, strict=True)
        ]
        for acknowledged in sent:
            await acknowledged

    async def _keep(
        self,
        connection: AsyncConnection[TupleRow],
        by_partition: Mapping[int, Sequence[JournaledStep]],
        found: Sequence[ShadowDifference],
    ) -> None:
        async with connection.transaction(), connection.cursor() as cursor:
            for partition, some in sorted(by_partition.items()):
                named = self._place(partition, some[-1].position, self._followed[partition].twin)
                await cursor.execute(QUERIES["shadow_go_on"], named | {"before": some[0].step.seq - 1})
                if cursor.rowcount != 1:
                    raise ConflictError("another process of this shadow was quicker, or its run was removed")
            if found:
                await cursor.executemany(QUERIES["shadow_differ"], [_row(one) for one in found])

    async def _save_if_due(self, partition: int, last: JournaledStep) -> None:
        followed = self._followed[partition]
        twin = followed.twin
        if twin.changes - followed.saved >= self._settings.checkpoint_changes_min:
            await followed.checkpoints.save(JournalPosition(last.offset + 1, twin.seq), twin.snapshot())
            followed.saved = twin.changes

    # A partition's state -----------------------------------------------------------------------------------------

    async def _at(self, partition: int, first: JournaledStep) -> Followed:
        """Return the partition before a step: as it stands in memory, or derived from the run's checkpoint on."""
        seq = first.step.seq
        followed = self._followed.get(partition)
        if followed is not None and followed.twin.seq == seq:
            return followed
        await self._forget(partition)
        checkpoints = self._checkpoints(partition)
        for checkpoint in await checkpoints.load():
            if checkpoint.position.seq > seq:
                continue
            try:
                twin = self._restored(partition, checkpoint.chunks)
            except OtherRun:
                continue
            tail = None
            if isinstance(twin, Twin):
                tail = InputTail(self._broker, self._names, partition, twin.router.state.positions, self._home)
            followed = Followed(twin=twin, tail=tail, checkpoints=checkpoints, saved=twin.changes)
            await self._derive(partition, followed, checkpoint.position, first)
            self._followed[partition] = followed
            return followed
        raise RetryableError(
            f"{self._names.shadow_checkpoint} has no checkpoint of this run for partition {partition} up to step {seq}"
        )

    def _restored(self, partition: int, chunks: Iterable[bytes]) -> Twin | OwnWorld:
        run = self._run
        if run.fleet is None:
            return Twin.restore(partition, run.rulebook, chunks, run=run.run, name=run.name)
        return OwnWorld.restore(partition, run.rulebook, run.fleet, chunks, run=run.run, name=run.name)

    async def _derive(self, partition: int, followed: Followed, start: JournalPosition, to: JournaledStep) -> None:
        """Take the steps from a checkpoint up to another step again; what they differ in is kept already."""
        if start.seq == to.step.seq:
            return
        _log.info("partition %d: deriving steps %d to %d again", partition, start.seq, to.step.seq - 1)

        async def take(_: int, step: Step) -> None:
            await followed.take(step)

        await read_tail(partition, self._journal(partition), start, take, before=to.offset)
        if followed.twin.seq != to.step.seq:
            raise RetryableError(f"the journal of partition {partition} ends before step {to.step.seq}")

    async def _forget(self, partition: int) -> None:
        followed = self._followed.pop(partition, None)
        if followed is not None and followed.tail is not None:
            await followed.tail.close()

    def _journal(self, partition: int) -> KafkaJournal:
        return KafkaJournal(self._broker, self._names, partition)

    def _checkpoints(self, partition: int) -> AlternatingCheckpoints:
        topic = KafkaCompacted(
            self._broker,
            self._names,
            partition,
            topic=self._names.shadow_checkpoint,
            prefix=f"shadow/{self._run.name}/",
        )
        return AlternatingCheckpoints(partition, topic, SystemClock())

    def _place(self, partition: int, position: SinkPosition, twin: Twin | OwnWorld) -> dict[str, Any]:
        return {
            "run": self._run.run,
            "partition": partition,
            "seq": position.seq,
            "offset": position.offset,
            "sha256": position.sha256,
            "chain": position.chain,
            "journal_id": position.journal_id,
            "sums": Jsonb(msgspec.to_builtins(twin.sums, str_keys=True)),
        }


def _row(one: ShadowDifference) -> dict[str, Any]:
    """Return a difference as the table has it."""
    row = {field: getattr(one, field) for field in one.__struct_fields__ if field not in ("v", "decided_at_ms")}
    return row | {
        "decided_at": from_millis(one.decided_at_ms),
        "live": Jsonb(msgspec.to_builtins(one.live)),
        "shadow": Jsonb(msgspec.to_builtins(one.shadow)),
    }
