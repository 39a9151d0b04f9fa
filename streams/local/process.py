"""A server as a child process: start, wait until it answers, log, stop. No child outlives this process.

This file owns processes, their ports and their directories. All parts are used alike:

    with EmbeddedBroker(log_file=Path("broker.log")) as broker:
        connect(broker.address)

A part runs in a session of its own, so that Ctrl-C in the terminal does not reach it: `up` stops the parts in its own
order. On Linux a part also ends when this process is killed by force, if the main thread started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final, Self, TypedDict

from streams.errors import UNREACHABLE, SlotwiseError
from streams.host import HOST, free_port, is_free, try_lock

POLL_S: Final = 0.02
LOG_TAIL_LINES: Final = 12
#: A log that is larger is put aside as `.1`, so that of each part between one and two times so much is there.
LOG_BYTES_MAX: Final = 10_000_000

_PR_SET_PDEATHSIG: Final = 1


class EmbeddedError(SlotwiseError):
    """A part of the embedded set-up did not start; the message says what to do."""

    exit_code = UNREACHABLE


class MissingPart(EmbeddedError):
    """A program that a part needs is not on this machine; the message says what to install."""


class RunAs(TypedDict, total=False):
    """Arguments of `subprocess` to run a command as another user; empty: as the same user."""

    user: int
    group: int
    extra_groups: list[int]


class Part(ABC):
    """One child process: started, watched and ended by its pid."""

    #: The part's name in messages.
    name: ClassVar[str]
    #: Whether its data survives a stop or a kill.
    durable: ClassVar[bool]

    _start_s_max: ClassVar[float] = 180
    _stop_s_max: ClassVar[float] = 30
    _stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    #: Sent by Linux when this process dies without stopping the part.
    _orphan_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, *, log_file: Path, port: int | None = None) -> None:
        self.log_file = log_file.absolute()
        #: Stays the same over restarts.
        self.port = free_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None
        #: Position of this start's first line in the log file, which has the lines of earlier starts as well.
        self._log_start = 0

    @property
    def address(self) -> str:
        """Host and port for clients."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id while the part runs, else None."""
        return self._process.pid if self._process is not None and self.alive() else None

    def alive(self) -> bool:
        """Whether the process runs (not whether it answers)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> str:
        """Start the part, wait until it answers its protocol, and return its address."""
        if not self.alive():
            self.launch()
            self.wait_until_it_answers()
        return self.address

    def launch(self) -> None:
        """Start the part's process, and do not wait for it."""
        self._require_free(self.port)
        command = self._prepare()
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log_file.parent,
                env=self._environment(),
                start_new_session=True,
                preexec_fn=_die_with_us(self._orphan_signal),  # noqa: PLW1509 - two system calls, no locks
                **self._run_as(),
            )

    def wait_until_it_answers(self) -> None:
        """Wait until a part that was launched answers its protocol.

        Raises:
            EmbeddedError: it ended, or does not answer; it is killed.
        """
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the part in good order; by force when it does not end in time."""
        self._end(self._stop_signal)

    def kill(self) -> None:
        """End the part like a crash."""
        self._end(signal.SIGKILL)

    def restart(self) -> str:
        """Stop and start again on the same port and the same data."""
        self.stop()
        return self.start()

    def trim_log(self) -> None:
        """Put a log aside that is full. The part goes on with the same open file, so that is emptied, not replaced."""
        with contextlib.suppress(OSError):  # a full disk, or no log yet: the part works all the same
            if self.log_file.stat().st_size > LOG_BYTES_MAX:
                shutil.copyfile(self.log_file, self.log_file.with_name(f"{self.log_file.name}.1"))
                os.truncate(self.log_file, 0)

    def __enter__(self) -> Self:
        """Start the part."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the part."""
        self.stop()

    @abstractmethod
    def _prepare(self) -> list[str]:
        """Prepare files and directories, and return the command line."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the part answers its protocol, not only its port."""

    def _explain(self, log: str) -> str | None:  # noqa: ARG002 - the parts read it
        """Return a sentence for a known error in the log."""
        return None

    def _run_as(self) -> RunAs:
        return {}

    def _environment(self) -> dict[str, str]:
        return plain_environment()

    def _require_free(self, port: int) -> None:
        if not is_free(port):
            raise EmbeddedError(
                f"{self.name} cannot listen on port {port} of {HOST}, because another program does: "
                "stop that program or choose another port."
            )

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(self._stop_s_max)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + self._start_s_max
        while time.monotonic() < deadline:
            # In this order: an answer counts only if it comes from this process and not from another one on that port.
            if self._answers() and self.alive():
                return
            if not self.alive():
                raise self._start_error("ended while starting")
            time.sleep(POLL_S)
        raise self._start_error(f"did not answer within {self._start_s_max:.0f} s")

    def _start_error(self, what: str) -> EmbeddedError:
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode(errors="replace")
        known = self._explain(text)
        if known is not None:
            return EmbeddedError(known)
        tail = "\n".join(text.splitlines()[-LOG_TAIL_LINES:]) or "(nothing)"
        return EmbeddedError(f"{self.name} {what}. The last lines of {self.log_file} say why:\n{tail}")


class DirectoryPart(Part):
    """A part with its data in a directory that no other process uses."""

    durable = True

    def __init__(self, directory: Path, *, log_file: Path, port: int | None) -> None:
        super().__init__(log_file=log_file, port=port)
        self.directory = directory.absolute()
        self._claim: int | None = None

    def launch(self) -> None:
        """Claim the directory, start the part's process, and do not wait for it."""
        self._release()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._claim = try_lock(self.directory / ".lock")
        if self._claim is None:
            raise self._in_use()
        try:
            super().launch()
        except BaseException:
            self._release()
            raise

    def _end(self, how: signal.Signals) -> None:
        super()._end(how)
        self._release()

    def _release(self) -> None:
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def _in_use(self) -> EmbeddedError:
        return EmbeddedError(
            f"{self.name} is already running on {self.directory}, started by another process: "
            "stop that one or choose another directory."
        )


def _die_with_us(how: signal.Signals) -> Callable[[], None] | None:
    """Ask Linux to signal the child when this process dies, even by `kill -9`; other systems have no such request.

    Linux ties the request to the thread that starts the child: a thread that ends early would end the part. Only the
    main thread lasts as long as the process, so the request is made only there.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def request() -> None:
        prctl(_PR_SET_PDEATHSIG, how.value)
        if os.getppid() != parent:  # the parent died between the fork and the request
            os._exit(1)

    return request


def plain_environment() -> dict[str, str]:
    """Return the few variables a part needs: PGPORT, LISTENER_URL and their like must not reconfigure it."""
    passed = ("HOME", "JAVA_HOME", "LD_LIBRARY_PATH", "PATH", "TMPDIR")
    return {name: os.environ[name] for name in passed if name in os.environ} | {"LC_ALL": "C"}
