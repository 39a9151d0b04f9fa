"""Run the audit sink as a process: signals in, sentences out."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from streams.logs import configure
from streams.sinks.postgres import PostgresSink

if TYPE_CHECKING:
    from streams.settings import Settings


def run(settings: Settings, *, accept_loss: bool = False) -> None:
    """Write the journal to Postgres until SIGTERM or Ctrl-C.

    Raises:
        JournalMismatch: the audit and the journal contradict each other.
        DatabaseError: the database setting is no DSN.
    """
    # The sink tells an outage of the broker once, in a sentence.
    configure(settings, silent=("aiokafka", "kafka"))
    asyncio.run(_run(settings, accept_loss=accept_loss))


async def _run(settings: Settings, *, accept_loss: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await PostgresSink(settings, accept_loss=accept_loss).run(stop)
