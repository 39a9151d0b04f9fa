"""Runs one worker: checks the topics, starts Faust in this process, and ends with an exit code and a sentence.

By default a worker is a static member of its group, under a name that it has again after a crash: the broker then gives
its partitions back at once, and does not wait until the dead one's session is over.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import sys
import tempfile
from pathlib import Path
from signal import Signals
from typing import Any, Final
from urllib.parse import quote

import faust
from msgspec.structs import replace

from streams import logs
from streams.app import App, build_app
from streams.core.policy.rulebook import RulebookError
from streams.ending import ANSWER_S_MAX, STOP_S_MAX, end, end_after
from streams.errors import FAILED, MISTAKE, SlotwiseError
from streams.host import free_port, try_lock
from streams.secret import masked
from streams.settings import NAMELESS, Settings, SettingsError, load
from streams.topics import check_topics, names

_log = logging.getLogger(__name__)

EXIT_OK: Final = 0


class NameTakenError(SlotwiseError):
    """Another worker of this machine has the same name in the group; the message says what to set."""

    exit_code = MISTAKE


def instance_id(settings: Settings) -> str:
    """Return the worker's name in its group; empty: it has none, because a port that changes says nothing of it.

    On one host no two workers have their pages on one address; in containers the host's name differs.
    """
    if settings.instance_id == NAMELESS:
        return ""
    if settings.instance_id or not settings.web_port:
        return settings.instance_id
    # The characters that Kafka allows.
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{socket.gethostname()}-{settings.web_host}-{settings.web_port}")


def claim_name(settings: Settings) -> int | None:
    """Keep the worker's name from other workers of this machine: two of one name would end each other's membership.

    Returns:
        The lock, held as long as this process lives; None: it has no name.

    Raises:
        NameTakenError: another one has the name.
    """
    if not settings.instance_id:
        return None
    folder = Path(tempfile.gettempdir()) / f"slotwise-names-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = try_lock(folder / quote(f"{settings.broker} {names(settings).group} {settings.instance_id}", safe=""))
    if lock is None:
        raise NameTakenError(
            f"A worker named {settings.instance_id} in the group {names(settings).group} runs on this machine already: "
            "give each worker a SLOTWISE_INSTANCE_ID of its own, or leave it empty and give each its own port."
        )
    return lock


def run(settings: Settings) -> int:
    """Run until a signal or a failure; return the exit code."""
    # The admin client runs before the start only; its errors are reported in slotwise's own sentence.
    logs.configure(settings, silent=("kafka",))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    name_given = bool(settings.instance_id)
    settings = replace(settings, instance_id=instance_id(settings))
    try:
        claim_name(settings)
        check_topics(settings, "worker")
        app = build_app(settings if settings.web_port else replace(settings, web_port=free_port(settings.web_host)))
    except (SlotwiseError, RulebookError) as refusal:
        sys.stderr.write(f"{masked(str(refusal))}\n")
        return refusal.exit_code
    app.leaves_group = not name_given
    worker = _Worker(app, quiet=True, loop=loop, override_logging=False, redirect_stdouts=False)
    worker.spinner = None
    _log.info("health, metrics and tables on http://%s:%d", app.settings.web_host, app.settings.web_port)
    code: Any = EXIT_OK
    try:
        worker.execute_from_commandline()
    except SystemExit as exited:
        code = exited.code
    if app.failure is not None:
        sys.stderr.write(f"{masked(str(app.failure))}\n")
        return FAILED
    return FAILED if code else EXIT_OK


class _Worker(faust.Worker):
    """Faust's worker, which ends within a bound when it is asked to, also while the broker is away."""

    app: App

    def _schedule_shutdown(self, signal: Signals) -> None:
        if not self._signal_stop_time:
            broker = self.app.settings.broker
            end_after(
                ANSWER_S_MAX + STOP_S_MAX,
                f"The stop is not over after {ANSWER_S_MAX + STOP_S_MAX:.0f} s, and this worker ends without it, as if "
                "killed: nothing is lost. What is in no step is handled at the next start.",
            )
            # The clients' complaints about a broker that is away would hide the sentence.
            for name in ("aiokafka", "faust", "mode", "asyncio"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            self._away = asyncio.ensure_future(self._end_without(broker))
        super()._schedule_shutdown(signal)

    async def _stop_on_signal(self, signal: Signals) -> None:
        await self._away
        await super()._stop_on_signal(signal)

    async def _end_without(self, broker: str) -> None:
        if not await self.app.connections[0].answers(ANSWER_S_MAX):
            end(
                f"The broker at {broker} does not answer, and this worker ends without it: nothing is lost. What is in "
                "no step is handled at the next start."
            )


def main() -> int:
    """Run with the settings of the environment."""
    try:
        settings = load(os.environ)
    except SettingsError as refusal:
        sys.stderr.write(f"{masked(str(refusal))}\n")
        return refusal.exit_code
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
