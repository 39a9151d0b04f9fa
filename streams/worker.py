"""Runs one worker: checks the topics, starts Faust in this process, and ends with an exit code and a sentence."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any, Final

import faust
from msgspec.structs import replace

from streams import logs
from streams.app import build_app
from streams.core.policy.rulebook import RulebookError
from streams.errors import FAILED, SlotwiseError
from streams.host import free_port
from streams.settings import Settings, SettingsError, load
from streams.topics import check_topics

_log = logging.getLogger(__name__)

EXIT_OK: Final = 0


def run(settings: Settings) -> int:
    """Run until a signal or a failure; return the exit code."""
    # The admin client runs before the start only; its errors are reported in slotwise's own sentence.
    logs.configure(settings, silent=("kafka",))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        check_topics(settings)
        app = build_app(settings if settings.web_port else replace(settings, web_port=free_port(settings.web_host)))
    except (SlotwiseError, RulebookError) as refusal:
        sys.stderr.write(f"{refusal}\n")
        return refusal.exit_code
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
        return FAILED
    return FAILED if code else EXIT_OK


def main() -> int:
    """Run with the settings of the environment."""
    try:
        settings = load(os.environ)
    except SettingsError as refusal:
        sys.stderr.write(f"{refusal}\n")
        return refusal.exit_code
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
