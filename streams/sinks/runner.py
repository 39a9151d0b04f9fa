"""Chooses the sink that a command asks for, and runs it until it is to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.logs import configure
from streams.sinks.jsonl import sink_into
from streams.sinks.postgres import PostgresSink

if TYPE_CHECKING:
    import asyncio

    from streams.settings import Settings


async def run(settings: Settings, stop: asyncio.Event, *, to: str | None = None, accept_loss: bool = False) -> None:
    """Write the journal to Postgres, or as JSON lines to the file `to`, until `stop` is set.

    Raises:
        JournalMismatch: the store and the journal contradict each other.
        DatabaseError: the database setting is no DSN.
        LinesFileError: the file cannot be continued.
    """
    # An outage of the broker is logged once, in the sink's own sentence.
    configure(settings, silent=("aiokafka", "kafka"))
    if to is None:
        await PostgresSink(settings, accept_loss=accept_loss).run(stop)
        return
    with sink_into(settings, to, accept_loss=accept_loss) as sink:
        await sink.run(stop)
