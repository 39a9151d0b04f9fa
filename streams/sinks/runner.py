"""Run a sink as a process: signals in, sentences out."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from streams.logs import configure
from streams.sinks.jsonl import sink_into
from streams.sinks.postgres import PostgresSink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.settings import Settings


def run(settings: Settings, *, to: str | None = None, accept_loss: bool = False) -> None:
    """Write the journal to Postgres, or as JSON lines to the file `to`, until SIGTERM or Ctrl-C.

    Raises:
        JournalMismatch: the store and the journal contradict each other.
        DatabaseError: the database setting is no DSN.
        LinesFileError: the file cannot be continued.
    """
    # An outage of the broker is logged once, in the sink's own sentence.
    configure(settings, silent=("aiokafka", "kafka"))
    if to is None:
        asyncio.run(_until_signal(PostgresSink(settings, accept_loss=accept_loss).run))
    else:
        with sink_into(settings, to, accept_loss=accept_loss) as sink:
            asyncio.run(_until_signal(sink.run))


async def _until_signal(run: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(stop)
