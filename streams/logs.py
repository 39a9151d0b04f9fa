"""Log lines of a process: one event a line, also when it contains line ends; for people or as JSON."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

from streams.secret import masked
from streams.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from streams.settings import Settings

CHARS_MAX: Final = 2_000

#: A client that looks for its broker repeats itself: so many lines of one kind in so many seconds.
FLOOD_LINES_MAX: Final = 3
FLOOD_S: Final = 30.0
CLIENT_LOGGER: Final = "aiokafka"


def configure(settings: Settings, *, silent: Iterable[str]) -> None:
    """Send all log lines of this process to standard error, in the form that the settings ask for.

    `silent` names loggers that are shown only at `debug`: the part itself reports an outage once, in a sentence.
    """
    before: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _calm,
    ]
    last: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last]
        )
    )
    handler.addFilter(FloodFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # Faust and its clients log every step of a rebalance at `info`.
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    # A late timer logs each time; what matters is the age of the journal.
    logging.getLogger("mode.timers").setLevel(logging.ERROR)
    for name in silent:
        # Not their own `debug`: there Kafka's clients show the password of a login, in a request's bytes too.
        logging.getLogger(name).setLevel(logging.CRITICAL if root.level > logging.DEBUG else logging.INFO)
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _calm(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and not key.startswith("_"):
            event[key] = printable(masked(value[:CHARS_MAX]))
    return event


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
