"""The schedulers that slotwise is compared with, named as in docs/offline.md; each call gives a new one."""

from __future__ import annotations

from streams.simulate.plain_a import PlainA
from streams.simulate.queue import Queue, all_able, cheapest_only, premium_only


def always_premium() -> Queue:
    """Every job waits for a premium slot."""
    return Queue(premium_only)


def always_cheap() -> Queue:
    """Every job waits for a slot of the lowest tier that can do it."""
    return Queue(cheapest_only)


def next_free_slot() -> Queue:
    """First come, first served by the slot that has been free longest."""
    return Queue(all_able)


def highest_ev_first() -> Queue:
    """As `next_free_slot`, but of the jobs that wait the one of the highest EV goes first, however long others wait."""
    return Queue(all_able, by_ev=True)


def plain_a() -> PlainA:
    """Cheapest capable class with the premium floor, one event at a time."""
    return PlainA()
