"""Inverse calls run in the reverse order of the changes, each once."""

from __future__ import annotations

from functools import partial

from schemas.vocabulary import MicroUsd
from streams.core.index.balances import Balances
from streams.core.index.undo import Undo


def test_the_latest_change_is_undone_first_and_each_once() -> None:
    """Three changes, undone as 3, 2, 1; a second run has nothing to do."""
    undo, done = Undo(), list[int]()
    for number in (1, 2, 3):
        undo.add(partial(done.append, number))
    undo.run()
    undo.run()
    assert done == [3, 2, 1]


def test_a_balance_changed_several_times_is_what_it_was() -> None:
    """A tenant with a budget has its amount back, one without has none again."""
    undo = Undo()
    balances = Balances({}, lambda _: (), undo)
    balances.sync("acme", MicroUsd(100))
    for left in (60, 20):
        balances.leave("acme", MicroUsd(left))
        balances.leave("bob", MicroUsd(left))
    assert balances.left == {"acme": 20, "bob": 20}
    undo.run()
    assert balances.left == {"acme": 100}
    assert balances.take_changed() == ["acme", "bob"]
