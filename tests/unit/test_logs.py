"""What a process logs stays readable while its broker is away."""

from __future__ import annotations

import logging

from streams.logs import FLOOD_LINES_MAX, FloodFilter


def line(name: str, number: int) -> logging.LogRecord:
    """A log line from a place in the code."""
    return logging.LogRecord(name, logging.ERROR, "file.py", number, "Unable to connect", None, None)


def test_a_client_that_repeats_itself_is_cut_short() -> None:
    """The first lines of a kind are shown, other kinds too."""
    flood = FloodFilter()
    shown = [flood.filter(line("aiokafka.conn", 7)) for _ in range(100)]
    assert shown.count(True) == FLOOD_LINES_MAX
    assert flood.filter(line("aiokafka.conn", 8))


def test_our_own_lines_are_always_shown() -> None:
    """Lines of slotwise are never dropped."""
    flood = FloodFilter()
    assert all(flood.filter(line("streams.partition.worker", 7)) for _ in range(100))
