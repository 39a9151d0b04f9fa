"""Writes a file as a whole: who reads it at any time finds the old content or the new one, never a part."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, *, mode: int | None = None, durable: bool = False) -> None:
    """Put content in the place of a file, by way of a draft beside it.

    `mode` are the file's permissions, in force before the content is there; None: as the process makes files. With
    `durable` the content is on the disk before it takes the file's place, and not only in memory.

    Raises:
        OSError: the draft cannot be written, or may not take the file's place.
    """
    draft = path.with_name(f"{path.name}.new")
    with draft.open("wb") as written:
        if mode is not None:
            os.fchmod(written.fileno(), mode)
        written.write(content)
        if durable:
            written.flush()
            os.fsync(written.fileno())
    draft.replace(path)
