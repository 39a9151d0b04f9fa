"""Free TCP ports of this machine, and files locked until the process ends."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

from streams.errors import UNREACHABLE, SlotwiseError

HOST: Final = "127.0.0.1"
# Below the range from which clients get their own ports (32768 on Linux): a client that keeps reconnecting to a stopped
# server would otherwise, one day, be connected to itself and keep the port.
PORT_MIN: Final = 15_000
PORT_MAX: Final = 32_767


class NoFreePort(SlotwiseError):
    """No port of this machine is free; the message says what to do."""

    exit_code = UNREACHABLE


#: The locks behind the ports that `free_port` gave out. They are held until this process ends, so that two processes
#: which ask at the same time, before either listens, get different ports.
_port_locks: list[int] = []


def free_port(host: str = HOST) -> int:
    """Pick a port of an address on which nothing listens, and which no other process of this user was just given.

    Raises:
        NoFreePort: every port that was tried is taken.
        OSError: the address is none of this machine's.
    """
    folder = Path(tempfile.gettempdir()) / f"slotwise-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for _ in range(200):
        port = random.randint(PORT_MIN, PORT_MAX)  # noqa: S311 - spreads the choices; nothing secret
        lock = try_lock(folder / str(port))
        if lock is None:
            continue
        if is_free(port, host):
            _port_locks.append(lock)
            return port
        os.close(lock)
    raise NoFreePort(f"No free port between {PORT_MIN} and {PORT_MAX} on {host}: stop some of what listens there.")


def is_free(port: int, host: str = HOST) -> bool:
    """Whether nothing listens on a port of an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections that are closing must not block a restart on the same port; a listener still does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            return False
        return True


def try_lock(path: Path) -> int | None:
    """Lock a file for as long as this process lives or keeps the descriptor that this returns.

    Returns:
        The descriptor; None when another process holds the lock.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
