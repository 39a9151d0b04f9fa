"""One process of a shadow: it joins the shadow's group, shares the partitions, and ends when its run is over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import uuid
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from psycopg.types.json import Jsonb

from streams.clock import SystemClock
from streams.database.connection import Timeouts, connect, connect_async, parameters, reading_audit, where
from streams.database.sql import QUERIES
from streams.errors import MISTAKE, SlotwiseError
from streams.kafka.client import Broker
from streams.logs import configure
from streams.shadow.metrics import ShadowMetrics
from streams.shadow.store import ShadowRun, ShadowStore
from streams.shipped import file_rulebook
from streams.simulate.fleet_words import words
from streams.sinks.follow import JournalFollower
from streams.sinks.guarded import GuardedConnection
from streams.sinks.pages import serving
from streams.sinks.ports import RetryableError
from streams.sinks.records import KafkaRecords
from streams.topics import name_in_audit, names

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

    from streams.core.policy.rulebook import Rulebook
    from streams.settings import Settings

#: How often a process looks whether its run is over.
LOOK_S: Final = 1.0

_log = logging.getLogger(__name__)


class ShadowUnderWay(SlotwiseError):
    """A shadow of this name runs with other rules."""

    exit_code = MISTAKE


class PluginsCannotFollow(SlotwiseError):
    """The rules ask plug-ins, whose answers no journal has."""

    exit_code = MISTAKE


def run_of(settings: Settings, name: str, rulebook: Rulebook, fleet: dict[str, int] | None = None) -> ShadowRun:
    """Return the run of a name that is under way, or begin one.

    Raises:
        PluginsCannotFollow: the rules ask plug-ins that the live ones do not ask.
        ShadowUnderWay: it is under way with other rules.
        DatabaseError: Postgres does not answer, or has no such tables.
    """
    live = file_rulebook(settings)
    if rulebook.policy.plugins.any and rulebook.policy.plugins != live.policy.plugins:
        raise PluginsCannotFollow(
            "The policy of the shadow names plug-ins that the live one does not, and the journal has no answers of "
            "theirs: leave them out of it."
        )
    rules = (rulebook.policy_hash, rulebook.catalog_hash, name_in_audit(settings), fleet)
    with (
        connect(settings.database, Timeouts.of(settings), application="slotwise shadow") as connection,
        reading_audit(),
    ):
        named = {"run": str(uuid.uuid4()), "name": name}
        policy, catalog, journal, _ = rules
        begun = {"policy": policy, "catalog": catalog, "journal": journal, "fleet": fleet and Jsonb(fleet)}
        connection.execute(QUERIES["shadow_begin"], named | begun)
        row = connection.execute(QUERIES["shadow_run"], named).fetchone()
    if row is None or tuple(row[1:]) != rules:
        raise ShadowUnderWay(
            f"A shadow {name} is under way with other rules or slots, or of another journal: end it with `slotwise "
            f"shadow stop {name}`, or choose another --name."
        )
    return ShadowRun(run=str(row[0]), name=name, rulebook=rulebook, live=live, fleet=fleet)


async def follow(
    settings: Settings,
    name: str,
    rulebook: Rulebook,
    stop: asyncio.Event,
    ready: Callable[[str], None],
    *,
    fleet: dict[str, int] | None = None,
) -> None:
    """Let a shadow follow the live journal until `stop` is set or its run is over; `ready` is given a sentence.

    `fleet`: slots by model that it has in each pool instead of the live ones.

    Raises:
        ShadowUnderWay, ShadowCannotFollow, InputsGone, JournalMismatch, JournalError, DatabaseError: as they say.
    """
    configure(settings, silent=("aiokafka", "kafka"))
    run = await asyncio.to_thread(run_of, settings, name, rulebook, fleet)
    timeouts = Timeouts.of(settings)
    database = where(parameters(settings.database, timeouts, "slotwise shadow"))

    def guarded() -> GuardedConnection:
        return GuardedConnection(
            lambda: connect_async(settings.database, timeouts, application="slotwise shadow"),
            name=database,
            transaction_s_max=timeouts.transaction_s,
        )

    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker(settings))
        store = ShadowStore(settings, broker, guarded(), run, name=database)
        stack.push_async_callback(store.close)
        missing = sorted(set(range(settings.partitions)) - (await store.positions()).keys())
        await store.begin(missing)
        follower = JournalFollower(
            KafkaRecords(settings, topic=names(settings).journal, group=names(settings).shadow_groups + name),
            store,
            SystemClock(),
            random.random,
            rows_max=settings.sink_rows_max,
            name=f"shadow {name}",
            lost=f"give `slotwise shadow stop {name}`, and start it again: it begins where the journal is then.",
        )
        if settings.shadow_web_port:
            pages = ShadowMetrics(name, store.found, follower.status)
            address = stack.enter_context(
                serving(settings.web_host, settings.shadow_web_port, follower.status, metrics=pages)
            )
            _log.info("health and metrics of the shadow on %s", address)
        slots = "" if fleet is None else f" with slots of its own: {words(fleet)}"
        ready(f"The shadow {name} follows the journal at {settings.broker} by policy {rulebook.policy_hash}{slots}.")
        await stack.enter_async_context(watching(guarded(), run, stop))
        await follower.run(stop)


@contextlib.asynccontextmanager
async def watching(connection: GuardedConnection, run: ShadowRun, stop: asyncio.Event) -> AsyncIterator[None]:
    """While inside, set `stop` as soon as the run is over, and close the connection at the end.

    An outage of the database is waited out. What else fails sets `stop` too, and is raised at the end: a shadow that
    can no more be asked to end must not go on.
    """

    def ended(watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled():
            stop.set()

    watcher = asyncio.create_task(_over(connection, run, stop))
    watcher.add_done_callback(ended)
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.wait([watcher])
        await connection.close()
        if not watcher.cancelled():
            watcher.result()


async def _over(connection: GuardedConnection, run: ShadowRun, stop: asyncio.Event) -> None:
    """Return when the run is over, as it was asked to end or removed; or when `stop` is set."""

    async def is_over(asked: AsyncConnection[TupleRow]) -> bool:
        row = await (await asked.execute(QUERIES["shadow_over"], {"run": run.run})).fetchone()
        return row is not None and bool(row[0])

    while not stop.is_set():
        with contextlib.suppress(RetryableError):
            if await connection.run(is_over):
                _log.info("this shadow was asked to end")
                return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await stop.wait()
