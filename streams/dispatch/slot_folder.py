"""The folder of one slot, for its owner only: what its command reads, logs, and the lock that says who serves it.

There are two locks on open files. One is the dispatcher's alone. The other one every keeper inherits, so it is free
only when the dispatcher and all that it started have ended: a dispatcher that comes back after `kill -9` announces no
slot whose earlier work still ends.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from schemas.codec import encode_event
from schemas.events import TaskRouted
from streams.dispatch.task_log import TaskLog, prune
from streams.errors import UNREACHABLE, SlotwiseError
from streams.host import try_lock
from streams.whole_file import write_whole

SERVED: Final = "dispatcher.lock"
LOCK: Final = "slot.lock"
TASK: Final = "task.json"
PROMPT: Final = "prompt.txt"


class SlotInUse(SlotwiseError):
    """Another dispatcher of this machine serves a slot; the message names it."""

    exit_code = UNREACHABLE


class SlotFolder:
    """The files of one slot, with its lock."""

    def __init__(self, root: Path, pool: str, slot_id: str) -> None:
        self.path = root.absolute() / _name(pool) / _name(slot_id)
        #: Held by the dispatcher alone.
        self._served: int | None = None
        #: Held by the keepers too.
        self._lock: int | None = None

    def lock(self) -> bool:
        """Take the slot for this process and what it starts; return whether nothing of an earlier one runs on it.

        Raises:
            SlotInUse: another dispatcher serves it.
            OSError: the folder cannot be made or written.
        """
        if self._served is None:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._served = try_lock(self.path / SERVED)
        if self._served is None:
            raise SlotInUse(
                f"Another dispatcher serves slot {self.path.name} with the same data directory ({self.path}): end that "
                "one, or name another slot."
            )
        if self._lock is None:
            self._lock = try_lock(self.path / LOCK)
        return self._lock is not None

    @property
    def lock_descriptor(self) -> int:
        """The open file that holds the lock; keepers inherit it."""
        assert self._lock is not None, "a slot is locked before anything runs on it"  # noqa: S101
        return self._lock

    def release(self) -> None:
        """Give the slot up; keepers that run on still hold it."""
        for descriptor in (self._lock, self._served):
            if descriptor is not None:
                os.close(descriptor)
        self._lock = self._served = None

    def put_task(self, routed: TaskRouted) -> Path:
        """Write the task, as it was routed, in place of the last one."""
        return self._put(TASK, encode_event(routed) + b"\n")

    def put_prompt(self, text: str) -> Path:
        """Write the prompt of a task."""
        return self._put(PROMPT, text.encode())

    def log(self, routed: TaskRouted, *, keep: int, bytes_max: int) -> TaskLog:
        """Begin the log of a task, and remove those of tasks that are too many."""
        prune(self.path, keep - 1)
        return TaskLog(self.path, f"{_name(routed.task_id)}.{routed.lease}", bytes_max=bytes_max)

    def _put(self, name: str, content: bytes) -> Path:
        # A new file: a process of the last task may still have the old one open.
        path = self.path / name
        write_whole(path, content)
        return path


def _name(text: str) -> str:
    """Return an id as the name of a file: one that begins with a dot would hide it, or lead out of the folder."""
    return f"%2E{text[1:]}" if text.startswith(".") else text
