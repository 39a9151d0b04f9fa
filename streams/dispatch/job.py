"""One command for one task: started under a keeper, its output read, ended when that is asked for.

The keeper is a process of its own (keeper.py). What it needs is here: the pipe by which it is asked to end the command,
the descriptor for the result, the lock of the slot, and the command's environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas.events import Outcome, TaskRouted
from schemas.vocabulary import from_millis
from streams.clock import Clock
from streams.dispatch import keeper
from streams.dispatch.fleet import FleetSlot
from streams.dispatch.presets import Output
from streams.dispatch.result import LINE_BYTES_MAX, Result, cancelled, merged, outcome_of, read_result
from streams.dispatch.slot_folder import SlotFolder
from streams.dispatch.task_log import TaskLog

#: Of the output, the end that is read for a result or by a preset.
STDOUT_BYTES_MAX: Final = 4_000_000
STDERR_BYTES_MAX: Final = 65_536
#: A process that left the command's group may hold the output open; the job waits no longer for it.
DRAIN_S_MAX: Final = 2.0
_CHUNK: Final = 65_536


class Ended(Struct, frozen=True, kw_only=True):
    """How a command ended."""

    exit_code: int
    latency_s: float
    #: What it says of itself, and what a preset reads in its output.
    result: Result
    #: What could not be used, in sentences.
    notes: tuple[str, ...]
    log: Path

    def outcome(self, task_id: str, now_ms: int) -> Outcome:
        """Return the outcome of a command that ended by itself."""
        return outcome_of(task_id, self.exit_code, self.result, self.latency_s, now_ms)

    def cancelled(self, task_id: str) -> Outcome:
        """Return the outcome of a command that was stopped, with what it used."""
        return cancelled(task_id, self.result, self.latency_s)


class Job:
    """A command that runs, or has run."""

    def __init__(self, slot: FleetSlot, routed: TaskRouted) -> None:
        self.slot = slot
        self.routed = routed
        self._control: int | None = None
        #: What was asked before the keeper was there.
        self._asked = b""
        self._started_s = time.monotonic()
        #: Whether KILL was asked for.
        self.killed = False

    async def run(self, folder: SlotFolder, clock: Clock, *, logs_keep: int, log_bytes_max: int) -> Ended:
        """Run the command to its end.

        Raises:
            OSError: its files cannot be written, or no process can be started.
        """
        log = folder.log(self.routed, keep=logs_keep, bytes_max=log_bytes_max)
        try:
            return await self._run(folder, log, clock)
        finally:
            self._close_control()
            log.close()

    def stop(self) -> None:
        """Ask the keeper to end the command: TERM, and KILL after the grace."""
        self._ask(b"t")

    def kill(self) -> None:
        """Ask the keeper to end the command by KILL."""
        self.killed = True
        self._ask(b"k")

    @property
    def elapsed_s(self) -> float:
        """For how long the command runs."""
        return time.monotonic() - self._started_s

    def _ask(self, word: bytes) -> None:
        if self._control is None:
            self._asked += word
        else:
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self._control, word)

    def _close_control(self) -> None:
        if self._control is not None:
            os.close(self._control)
            self._control = None

    async def _run(self, folder: SlotFolder, log: TaskLog, clock: Clock) -> Ended:
        # 1. What the command reads.
        task_file = folder.put_task(self.routed)
        stdin = task_file if self.slot.preset is None else folder.put_prompt(prompt_of(self.routed))
        began = from_millis(clock.now_ms())
        log.write(
            f"# {self.routed.task_id}, attempt {self.routed.attempt}, on {self.routed.slot_id} ({self.routed.model}), "
            f"lease {self.routed.lease}, decision {self.routed.decision_id}: {began}\n".encode()
        )
        # 2. The keeper, and under it the command.
        stdout, stderr, written = (_Tail(size) for size in (STDOUT_BYTES_MAX, STDERR_BYTES_MAX, LINE_BYTES_MAX + 2))
        self._started_s = time.monotonic()
        process, result = await self._start(task_file, stdin, folder.lock_descriptor)
        # 3. Its output, until the keeper has ended.
        assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - they are pipes
        readers = [
            asyncio.ensure_future(_read(process.stdout, stdout, log)),
            asyncio.ensure_future(_read(process.stderr, stderr, log)),
            asyncio.ensure_future(_read(result, written, None)),
        ]
        try:
            exit_code = await process.wait()
            await asyncio.wait(readers, timeout=DRAIN_S_MAX)
        finally:
            for reader in readers:
                reader.cancel()
        latency_s = self.elapsed_s
        # 4. What it says.
        code = exit_code if exit_code >= 0 else keeper.SIGNALLED - exit_code
        said, notes = read_result(written.content, stdout.content if self.slot.preset is None else b"")
        if self.slot.preset is not None:
            read = self.slot.preset.result(Output(stdout.text, stderr.text), code)
            said = merged(said, read)
        if log.broken is not None:
            notes.append(log.broken)
        log.write(f"# ended with {code} after {latency_s:.1f} s\n".encode())
        return Ended(exit_code=code, latency_s=latency_s, result=said, notes=tuple(notes), log=log.path)

    async def _start(
        self, task_file: Path, stdin: Path, lock: int
    ) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
        control_read, control = os.pipe()
        result_read, result = os.pipe()
        os.set_blocking(control, False)
        reader = asyncio.StreamReader()
        try:
            with stdin.open("rb") as content:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", keeper.__file__),
                    *(str(control_read), str(result), str(self.slot.grace_s), *self.slot.command),
                    stdin=content,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=(control_read, result, lock),
                    cwd=self.slot.directory,
                    env=environment(self.slot, self.routed, task_file),
                    start_new_session=True,
                )
        except BaseException:
            os.close(control)
            os.close(result_read)
            raise
        finally:
            os.close(control_read)
            os.close(result)
        self._control = control
        if self._asked:
            self._ask(self._asked)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(result_read, "rb", buffering=0)
        )
        return process, reader


def environment(slot: FleetSlot, routed: TaskRouted, task_file: Path) -> dict[str, str]:
    """Return the environment of a command: the fleet's, and what concerns the task."""
    own = {
        "TASK_ID": routed.task_id,
        "TASK_POOL": routed.pool,
        "TASK_SLOT": routed.slot_id,
        "TASK_MODEL": routed.model,
        "TASK_ACCOUNT": routed.account or "",
        "TASK_MAX_TOKENS": str(routed.max_tokens),
        "TASK_LEASE": str(routed.lease),
        "TASK_LEASE_EXPIRES_AT": routed.lease_expires_at,
        "TASK_ATTEMPT": str(routed.attempt),
        "TASK_DECISION_ID": routed.decision_id,
        "TASK_FILE": str(task_file),
        "TASK_RESULT_FD": str(keeper.RESULT_FD),
    }
    return {**slot.environment, **own}


def prompt_of(routed: TaskRouted) -> str:
    """Return what a preset's program is asked: `prompt` of the payload, a payload that is a text, else the title."""
    payload: Any = msgspec.json.decode(routed.payload) if routed.payload is not None else None
    if isinstance(payload, dict):
        payload = payload.get("prompt")
    if isinstance(payload, str) and payload:
        return payload
    return "\n".join(filter(None, (routed.title, routed.ref)))


class _Tail:
    """The last bytes of a stream."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._content = bytearray()

    def add(self, chunk: bytes) -> None:
        """Add bytes; what is too much is cut at the front, now and then."""
        self._content += chunk
        if len(self._content) > 2 * self._size:
            del self._content[: -self._size]

    @property
    def content(self) -> bytes:
        """The bytes."""
        return bytes(self._content[-self._size :])

    @property
    def text(self) -> str:
        """The bytes as text."""
        return self.content.decode(errors="replace")


async def _read(stream: asyncio.StreamReader, tail: _Tail, log: TaskLog | None) -> None:
    while chunk := await stream.read(_CHUNK):
        tail.add(chunk)
        if log is not None:
            log.write(chunk)
