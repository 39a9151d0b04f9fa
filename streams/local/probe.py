"""Whether a Kafka broker answers: one Metadata request over a plain socket, without a client."""

from __future__ import annotations

import socket
import struct

from streams.host import HOST


def broker_answers(port: int) -> bool:
    """Whether a Kafka broker on the port answers a Metadata request (version 1, no topics) and counts itself ready."""
    request = struct.pack(">hhihi", 3, 1, 0, -1, 0)
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection, connection.makefile("rb") as reply:
            connection.sendall(struct.pack(">i", len(request)) + request)
            head = reply.read(12)
    except OSError:
        return False
    if len(head) < 12:  # noqa: PLR2004 - size, correlation id, number of brokers
        return False
    brokers: int = struct.unpack(">iii", head)[2]
    return brokers > 0
