"""`up.json`: the addresses of a running `slotwise up`, written by it and read by every other command.

`targets.json` beside it has where its metrics are, in the form of Prometheus' `file_sd_configs`.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from streams.settings import KAFKA_GROUP, Settings, SettingsError, load
from streams.whole_file import write_whole

NAME = "up.json"
TARGETS = "targets.json"
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
    #: Address of the sink's health and metrics.
    sink: str = ""
    #: Process id by part; `up` is the one to end.
    pids: dict[str, int]
    #: The parts' other settings, where they are not the default: commands that join use the same.
    settings: dict[str, Any] = {}


def write(directory: Path, content: UpFile) -> None:
    """Replace the files atomically: a reader sees the old one or the new one."""
    _replace(directory / NAME, content)
    jobs = {"slotwise-worker": content.web, "slotwise-sink": content.sink}
    _replace(
        directory / TARGETS,
        [{"targets": [at.removeprefix("http://")], "labels": {"job": job}} for job, at in jobs.items() if at],
    )


def remove(directory: Path) -> None:
    """Remove the files at the end of the run."""
    for name in (NAME, TARGETS):
        (directory / name).unlink(missing_ok=True)


def _replace(path: Path, content: Any) -> None:
    write_whole(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n", mode=0o600)


def read(directory: Path) -> UpFile | None:
    """Read the file of an installation that runs; None where there is none, or none that can be read or still runs."""
    try:
        content = msgspec.json.decode((directory / NAME).read_bytes(), type=UpFile)
        os.kill(content.pids["up"], 0)
    except (OSError, KeyError, ValueError, OverflowError, RecursionError, msgspec.DecodeError):
        return None
    return content


def joined(settings: Settings, stated: Collection[str]) -> Settings:
    """Return settings with those of the `slotwise up` that runs on the data directory, but for the stated ones.

    Raises:
        SettingsError: its file is of another version, and cannot be used.
    """
    running = read(Path(settings.data_dir))
    if running is None:
        return settings
    host, _, port = running.web.removeprefix("http://").rpartition(":")
    addresses = {"broker": running.broker, "database": running.database, "web_host": host, "web_port": port}
    found = {**running.settings, **addresses, "data_dir": settings.data_dir}
    try:
        there = load({}, found)
    except SettingsError as error:
        raise SettingsError(
            f"{Path(settings.data_dir) / NAME} is of another slotwise ({error}): start `slotwise up` again."
        ) from None
    return msgspec.structs.replace(settings, **{name: getattr(there, name) for name in taken(running, stated)})


def taken(running: UpFile, stated: Collection[str]) -> set[str]:
    """Return the names of the settings that are those of a running `slotwise up`, where these were stated."""
    found = {*running.settings, "broker", "database", "web_host", "web_port"}.difference(stated)
    if "broker" in found:
        # How a broker is reached belongs to its address: what is set for another one would not fit.
        found |= {name for name in Settings.__struct_fields__ if name.startswith(KAFKA_GROUP)}
    return found
