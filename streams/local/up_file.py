"""`up.json`: where a running `slotwise up` is reached, written by it and read by every other command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

NAME = "up.json"
#: Settings that the file gives in a form of its own, or that whoever reads it has to know already.
ADDRESSES = frozenset({"broker", "database", "web_host", "web_port", "data_dir"})


class UpFile(Struct, frozen=True, kw_only=True):
    """Addresses and process ids of one running installation."""

    broker: str
    #: With the password: the file is for its owner only.
    database: str
    #: Address of the worker's pages.
    web: str
    #: Process id by part; `up` is the one to end.
    pids: dict[str, int]
    #: The parts' other settings, where they are not the default: who joins must have the same.
    settings: dict[str, Any] = {}


def write(directory: Path, content: UpFile) -> None:
    """Write the file as a whole: a reader sees the old one or the new one."""
    scratch = directory / f"{NAME}.new"
    scratch.touch(mode=0o600)
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
    scratch.replace(directory / NAME)


def remove(directory: Path) -> None:
    """Remove the file: nothing is reached here any more."""
    (directory / NAME).unlink(missing_ok=True)


def read(directory: Path) -> UpFile | None:
    """Read the file of an installation that runs; None when there is none, or when it was ended by force."""
    try:
        content = msgspec.json.decode((directory / NAME).read_bytes(), type=UpFile)
        os.kill(content.pids["up"], 0)
    except (OSError, KeyError, msgspec.DecodeError):
        return None
    return content
