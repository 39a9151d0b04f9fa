"""Serves the application until it is to stop: the following, the producer, and uvicorn around them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final

import uvicorn

from streams.errors import MISTAKE, SlotwiseError
from streams.logs import configure
from streams.operate.following import Following
from streams.operate.producer import EventProducer
from streams.settings import Settings
from streams.web.access import Tokens
from streams.web.application import guarded
from streams.web.state import Web

_log = logging.getLogger(__name__)

#: Longest wait for requests that are under way at the end.
END_S_MAX: Final = 3
CONNECTIONS_MAX: Final = 1_000


class OpenToAllError(SlotwiseError):
    """Without tokens the server would be open to other machines; the message says what to do."""

    exit_code = MISTAKE


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command."""
        yield


def tokens_of(settings: Settings) -> Tokens:
    """Read the tokens of the settings.

    Raises:
        OpenToAllError: there are none, and the address is not only this machine's.
        TextFileError, TokenFileError: their file cannot be used.
    """
    tokens = Tokens.of(settings)
    if not tokens.configured and not _is_loopback(settings.http_host):
        raise OpenToAllError(
            f"{settings.http_host} can be reached from other machines, and no tokens are configured: name a file of "
            "them with SLOTWISE_HTTP_TOKENS (`slotwise token` makes one), or serve 127.0.0.1."
        )
    return tokens


def listen(config: uvicorn.Config) -> socket.socket:
    """Return a socket that listens, and whose connections send each part of an answer at once.

    Raises:
        OSError: the address cannot be listened on.
    """
    found = config.bind_socket()
    # An answer is written as head and body. Otherwise the body can wait for the client's acknowledgement of the head,
    # up to 40 ms. asyncio sees to it only where a socket names its protocol, and uvicorn's does not.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


async def run(settings: Settings, tokens: Tokens, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
    """Serve until `stop` is set; `ready` receives the address when it is served.

    Raises:
        OSError: the address cannot be listened on.
    """
    configure(settings, silent=("aiokafka", "kafka", "uvicorn"))
    web = Web(settings, tokens, Following(settings), EventProducer(settings), stop)
    config = uvicorn.Config(
        guarded(web),
        host=settings.http_host,
        port=settings.http_port,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=END_S_MAX,
    )
    listening = listen(config)
    server = _Server(config)
    following = asyncio.create_task(web.following.run(stop))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    ending = asyncio.create_task(stop.wait())
    try:
        host, port = listening.getsockname()[:2]
        ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        server.should_exit = True
        await serving
    finally:
        stop.set()
        ending.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await web.producer.stop()
        await asyncio.to_thread(web.lag.close)
        await asyncio.to_thread(web.audit.close)
        listening.close()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
