"""Commands of slotwise as parts: the worker, the sink and the sample, each a process."""

from __future__ import annotations

import signal
import sys
import urllib.error
import urllib.request
from abc import abstractmethod
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar

import msgspec

from streams.host import HOST
from streams.local.process import Part, plain_environment
from streams.sample.play import SampleProgress
from streams.secret import Secret
from streams.settings import ENV_PREFIX, NAMELESS, Settings, table


class _Command(Part):
    """A command of slotwise as a part. It stores nothing, so it may be ended by force at any time."""

    durable = True
    _orphan_signal = signal.SIGKILL
    _stop_s_max: ClassVar[float] = 15

    def __init__(self, settings: Settings, *, log_file: Path, port: int | None = None) -> None:
        super().__init__(log_file=log_file, port=port)
        self.settings = settings

    @property
    def pages(self) -> str:
        """Address of what it serves over HTTP, if it does."""
        return f"http://{self.address}"

    @abstractmethod
    def _arguments(self) -> list[str]:
        """Return the arguments after `slotwise` on the command line."""

    def _prepare(self) -> list[str]:
        return [sys.executable, "-m", "streams.cli", *self._arguments()]

    def _environment(self) -> dict[str, str]:
        # Through the environment: every user of the machine could read the database's password on the command line.
        return plain_environment() | environment(self.settings)

    def _answers(self) -> bool:
        return self.alive()

    def _says_ok(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"{self.pages}{path}", timeout=2) as answer:  # noqa: S310 - our own address
                return bool(answer.status == HTTPStatus.OK)
        except (OSError, urllib.error.URLError):
            return False


class WorkerPart(_Command):
    """The router."""

    name = "The worker"

    def __init__(self, settings: Settings, *, log_file: Path, port: int | None = None, durable: bool = True) -> None:
        """`durable`: the broker outlives a restart. Tansu does not, and never gives away the place of a dead member."""
        super().__init__(settings, log_file=log_file, port=port)
        # A directory has one worker, whose port is another one each time.
        self._name = settings.instance_id or ("up" if durable else NAMELESS)

    def _arguments(self) -> list[str]:
        return ["worker"]

    def _environment(self) -> dict[str, str]:
        own = {f"{ENV_PREFIX}WEB_PORT": str(self.port), f"{ENV_PREFIX}INSTANCE_ID": self._name}
        return super()._environment() | own

    def _answers(self) -> bool:
        return self._says_ok("/health/ready")


class WebPart(_Command):
    """The HTTP API."""

    name = "The HTTP API"

    def _arguments(self) -> list[str]:
        return ["web"]

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {f"{ENV_PREFIX}HTTP_PORT": str(self.port), f"{ENV_PREFIX}HTTP_HOST": HOST}

    def _answers(self) -> bool:
        return self._says_ok("/health/live")


class SinkPart(_Command):
    """The audit's writer. It always has its pages here, so that its metrics are seen."""

    name = "The sink"

    def _arguments(self) -> list[str]:
        return ["sink"]

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {f"{ENV_PREFIX}SINK_WEB_PORT": str(self.port)}


class SamplePart(_Command):
    """The bundled sample, and the fleet that runs its tasks."""

    name = "The sample"

    def __init__(self, settings: Settings, *, tasks: int, speed: float, run: str, status: Path, log_file: Path) -> None:
        super().__init__(settings, log_file=log_file)
        self._tasks = tasks
        self._speed = speed
        self._run = run
        self._status = status

    def _arguments(self) -> list[str]:
        return [
            *("sample", "--pool", "main", "--run", self._run, "--status", str(self._status)),
            *("--tasks", str(self._tasks), "--speed", str(self._speed)),
        ]

    @property
    def progress(self) -> SampleProgress:
        """The progress that the sample reported last."""
        try:
            return msgspec.json.decode(self._status.read_bytes(), type=SampleProgress)
        except FileNotFoundError:
            return SampleProgress(tasks=self._tasks)


def environment(settings: Settings) -> dict[str, str]:
    """Return settings, without those at their default, as the environment of a process; only its owner can read it."""
    values = {row.env: (getattr(settings, row.name), row.default) for row in table()}
    return {
        env: value.reveal() if isinstance(value, Secret) else str(value)
        for env, (value, default) in values.items()
        if value != default
    }
