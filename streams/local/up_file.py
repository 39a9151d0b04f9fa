"""`up.json`: the addresses of a running `slotwise up`, written by it and read by every other command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

NAME = "up.json"
#: Settings that the file has in another form, or that its reader has already.
ADDRESSES = frozenset({"broker", "database", "web_host", "web_port", "http_host", "http_port", "data_dir"})


class UpFile(Struct, frozen=True, kw_only=True):
    """Addresses and process ids of one running installation."""

    broker: str
    #: Without the password: it names the file that has it, which only its owner may read.
    database: str
    #: Address of the worker's pages.
    web: str
    #: Address of the HTTP API.
    http: str = ""
    #: Process id by part; `up` is the one to end.
    pids: dict[str, int]
    #: The parts' other settings, where they are not the default: commands that join use the same.
    settings: dict[str, Any] = {}


def write(directory: Path, content: UpFile) -> None:
    """Replace the file atomically: a reader sees the old one or the new one."""
    scratch = directory / f"{NAME}.new"
    scratch.touch(mode=0o600)
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
    scratch.replace(directory / NAME)


def remove(directory: Path) -> None:
    """Remove the file at the end of the run."""
    (directory / NAME).unlink(missing_ok=True)


def read(directory: Path) -> UpFile | None:
    """Read the file of an installation that runs; None where there is none, or none that can be read or still runs."""
    try:
        content = msgspec.json.decode((directory / NAME).read_bytes(), type=UpFile)
        os.kill(content.pids["up"], 0)
    except (OSError, KeyError, ValueError, OverflowError, RecursionError, msgspec.DecodeError):
        return None
    return content
