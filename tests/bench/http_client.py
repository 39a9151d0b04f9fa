"""A client of HTTP/1.1 that costs little: one connection that is kept, a request at a time, the status and the body."""

from __future__ import annotations

import asyncio
from typing import Final, Self

from streams.host import HOST

_LENGTH: Final = b"content-length:"


class Connection:
    """One connection to a server on this machine. A context."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self._port = port
        authorization = "" if token is None else f"Authorization: Bearer {token}\r\n"
        self._who = f"Host: {HOST}:{port}\r\n{authorization}"
        self._head = (f"POST /tasks HTTP/1.1\r\n{self._who}Content-Type: application/json\r\nContent-Length: ").encode()

    async def __aenter__(self) -> Self:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        self._writer.close()
        await self._writer.wait_closed()

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Send `POST /tasks`, and return the status and the body of the answer."""
        self._writer.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        return await self._answer()

    async def get(self, address: str) -> tuple[int, bytes]:
        """Send `GET`, and return the status and the body of the answer."""
        self._writer.write(f"GET {address} HTTP/1.1\r\n{self._who}\r\n".encode())
        return await self._answer()

    async def _answer(self) -> tuple[int, bytes]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(int(line[len(_LENGTH) :]) for line in head.lower().split(b"\r\n") if line.startswith(_LENGTH))
        return int(head[9:12]), await self._reader.readexactly(length)
