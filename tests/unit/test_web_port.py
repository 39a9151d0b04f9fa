"""A further worker of a machine takes the next free port for its pages, unless a port was asked for."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streams.commands import run
from streams.commands.run import PortError, _with_port
from streams.settings import Settings


def test_of_the_default_port_the_next_that_is_free_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is said which; a free one stays, and any that was asked for is not replaced."""
    first = Settings().web_port
    taken = {first, first + 1, 7000}
    monkeypatch.setattr(run, "is_free", lambda port, _host: port not in taken)
    assert _with_port(Settings()).web_port == first + 2
    assert _with_port(replace(Settings(), web_port=7001)).web_port == 7001
    with pytest.raises(PortError, match=r"cannot listen on 127\.0\.0\.1:7000"):
        _with_port(replace(Settings(), web_port=7000))
    monkeypatch.setattr(run, "is_free", lambda _port, _host: False)
    with pytest.raises(PortError, match=f"up to {first + run.NEXT_PORTS}"):
        _with_port(Settings())
