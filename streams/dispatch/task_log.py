"""What a command prints, kept in a file a task: the last of it, and of a slot the last tasks.

Standard output and standard error are in one file, in the order in which they arrived. A file that is full is put
aside as `.1`, so that between one and two times its size is there. A disk that is full stops no work.
"""

from __future__ import annotations

import contextlib
from io import FileIO
from pathlib import Path
from typing import Final

SUFFIX: Final = ".log"
_OLDER: Final = ".1"


class TaskLog:
    """The log of one task on one slot."""

    def __init__(self, folder: Path, name: str, *, bytes_max: int) -> None:
        self.path = folder / f"{name}{SUFFIX}"
        self._bytes_max = bytes_max
        self._size = 0
        self._file: FileIO | None = None
        #: Why nothing more is written.
        self.broken: str | None = None
        try:
            self._file = self._open()
        except OSError as error:
            self._give_up(error)

    def write(self, text: bytes) -> None:
        """Add what was printed; nothing happens where that cannot be written."""
        if self._file is None:
            return
        try:
            if self._size and self._size + len(text) > self._bytes_max:
                self._file.close()
                self.path.replace(self.path.with_name(self.path.name + _OLDER))
                self._file, self._size = self._open(), 0
            self._file.write(text)
        except OSError as error:
            self._give_up(error)
        self._size += len(text)

    def close(self) -> None:
        """End the log."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _open(self) -> FileIO:
        return self.path.open("wb", buffering=0)

    def _give_up(self, error: OSError) -> None:
        self.broken = f"{self.path} cannot be written: {error.strerror}. The work goes on."
        self.close()


def prune(folder: Path, keep: int) -> None:
    """Remove the logs of a slot's oldest tasks, so that `keep` are left."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(found, reverse=True)[keep:]:
        for one in (path, path.with_name(path.name + _OLDER)):
            with contextlib.suppress(OSError):
                one.unlink()
