"""Signals that ask a run to stop: turned into one exception while it runs, ignored while its parts are stopped."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final, TypeAlias

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Handler: TypeAlias = Callable[[int, FrameType | None], object] | signal.Handlers


class StopAsked(BaseException):
    """A signal asked the run to stop."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into `StopAsked`, wherever the main thread is."""

    def ask(*_: object) -> None:
        raise StopAsked

    with _handled_by(ask):
        yield


@contextlib.contextmanager
def signals_ignored() -> Iterator[None]:
    """Ignore further requests while parts are being stopped: each of them has a bounded time anyway."""
    with _handled_by(signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _handled_by(handler: _Handler) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
