"""Runs one worker: checks the topics, starts Faust in this process, and ends with an exit code and a sentence."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from typing import Any, Final

import faust
import structlog
from msgspec.structs import replace

from streams.app import build_app
from streams.policy.rulebook import RulebookError
from streams.settings import Settings, SettingsError, load
from streams.topics import TopicsError, check_topics

_log = logging.getLogger(__name__)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_REFUSED: Final = 2

#: A client that looks for its broker repeats itself: so many lines of one kind in so many seconds.
FLOOD_LINES_MAX: Final = 3
FLOOD_S: Final = 30.0
CLIENT_LOGGER: Final = "aiokafka"


def run(settings: Settings) -> int:
    """Run until a signal or a failure; return the exit code."""
    configure_logging(settings)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        check_topics(settings)
        app = build_app(settings if settings.web_port else replace(settings, web_port=_free_port(settings.web_host)))
    except (TopicsError, SettingsError, RulebookError) as refusal:
        sys.stderr.write(f"{refusal}\n")
        return EXIT_REFUSED
    worker = faust.Worker(app, quiet=True, loop=loop, override_logging=False, redirect_stdouts=False)
    worker.spinner = None
    _log.info("health, metrics and tables on http://%s:%d", app.settings.web_host, app.settings.web_port)
    code: Any = EXIT_OK
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        code = end.code
    if app.failure is not None:
        sys.stderr.write(f"{app.failure}\n")
        return EXIT_FAILED
    return EXIT_FAILED if code else EXIT_OK


def configure_logging(settings: Settings) -> None:
    """One line an event, for people or as JSON; what libraries log takes the same way."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(FloodFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # Faust and its clients tell every step of a rebalance at this level.
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    # A timer that comes late says so each time; what matters is the age of the journal.
    logging.getLogger("mode.timers").setLevel(logging.ERROR)
    # The admin client runs before the start only, and what went wrong is said in our own sentence.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class FloodFilter(logging.Filter):
    """Lets the first few lines of a kind through, from the Kafka client only: it logs in a loop without a broker."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is shown."""
        if not record.name.startswith(CLIENT_LOGGER):
            return True
        kind, now_s = (record.name, record.lineno), time.monotonic()
        since_s, lines = self._seen.get(kind, (now_s, 0))
        if now_s - since_s > FLOOD_S:
            since_s, lines = now_s, 0
        self._seen[kind] = (since_s, lines + 1)
        return lines < FLOOD_LINES_MAX


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Run with the settings of the environment."""
    try:
        settings = load(os.environ)
    except SettingsError as refusal:
        sys.stderr.write(f"{refusal}\n")
        return EXIT_REFUSED
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
