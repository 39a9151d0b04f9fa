"""Log lines of a process: one event a line, whatever strangers have put into it, for people or as JSON."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from streams.settings import Settings

CHARS_MAX: Final = 2_000

#: Letters that would end the line, act on a terminal or turn the reading direction.
_ACTING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
#: These tell every retry of every connection; the parts that use them tell the outage once.
_TALKATIVE: Final = ("aiokafka", "kafka")


def configure(settings: Settings) -> None:
    """Send all log lines of this process to standard error, in the form that the settings ask for."""
    before: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _calm,
    ]
    last = structlog.processors.JSONRenderer() if settings.log_json else structlog.dev.ConsoleRenderer(colors=False)
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL if settings.log_level != "debug" else logging.DEBUG)


def _calm(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and not key.startswith("_"):
            event[key] = _ACTING.sub(lambda found: f"\\u{ord(found.group()):04x}", value[:CHARS_MAX])
    return event
