"""Chooses the sink that a command asks for, and runs it until it is to stop."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from streams.logs import configure
from streams.sinks.jsonl import sink_into
from streams.sinks.pages import serving
from streams.sinks.postgres import PostgresSink

if TYPE_CHECKING:
    import asyncio

    from streams.settings import Settings


_log = logging.getLogger(__name__)


async def run(settings: Settings, stop: asyncio.Event, *, to: str | None = None, accept_loss: bool = False) -> None:
    """Write the journal to Postgres, or as JSON lines to the file `to`, until `stop` is set.

    Raises:
        JournalMismatch: the store and the journal contradict each other.
        DatabaseError: the database setting is no DSN.
        LinesFileError: the file cannot be continued.
        SinkPagesError: the port of its pages is taken.
    """
    # An outage of the broker is logged once, in the sink's own sentence.
    configure(settings, silent=("aiokafka", "kafka"))
    with contextlib.ExitStack() as stack:
        sink = (
            PostgresSink(settings, accept_loss=accept_loss)
            if to is None
            else stack.enter_context(sink_into(settings, to, accept_loss=accept_loss))
        )
        if settings.sink_web_port:
            address = stack.enter_context(serving(settings.web_host, settings.sink_web_port, sink.status))
            _log.info("health and metrics of the sink on %s", address)
        _log.info("the sink follows the journal at %s", settings.broker)
        await sink.run(stop)
