"""A shadow of the same rules never differs; one of other rules differs exactly where a second way finds it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decision import Decision
from schemas.shadow import ShadowDifference
from schemas.steps import decode_step, encode_step
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.shadow.twin import Twin
from tests.support.random_history import History, book
from tests.support.router_rig import RouterRig, picture
from tests.support.shadow_run import run

SOME = settings(max_examples=max(5, settings().max_examples // 20))
SEEDS = st.integers(0, 2**32)
STEPS = 40
#: Announcements have room, so that what is said does not depend on what was said before.
ROOM: dict[str, Any] = {"announcements_max": 100_000, "announcements_per_s": 1000.0}
#: One threshold each, and where it counts: the premium floor, quest priorities, the bar of a class.
PLANTED: dict[str, dict[str, dict[str, Any]]] = {
    "priority": {"premium": {"priority_min": 96}},
    "quest": {"lift": {"quest_priority_min": 97}},
    "bar": {"complexity_tier_min": {"trivial": 2}},
}


def twin_of(rules: Rulebook, beside: Router | None = None) -> Twin:
    """Give a shadow that begins with its router, or at the first step."""
    return Twin.beside(beside or Router(0, book()), rules, run="run", name="test")


def followed(twin: Twin, rig: RouterRig, first: int = 0, last: int | None = None) -> Iterator[ShadowDifference]:
    """Give what a shadow finds in some steps of a history, as its journal has them."""
    for step, batch in zip(rig.steps[first:last], rig.batches[first:last], strict=True):
        yield from twin.take(decode_step(encode_step(step)), batch)


@SOME
@given(SEEDS)
def test_the_same_rules_never_differ(seed: int) -> None:
    """No difference at any step; the state, its own windows included, stays that of the router."""
    rig = History(seed).play(STEPS)
    twin = twin_of(book())
    assert list(followed(twin, rig)) == []
    assert twin.sums.decisions == len(rig.decisions())
    assert twin.sums.live == twin.sums.shadow
    assert picture(twin.router) == picture(rig.router)


@SOME
@given(SEEDS, st.integers(0, STEPS - 1), st.sampled_from(sorted(PLANTED)))
def test_a_stop_anywhere_changes_nothing(seed: int, at: int, planted: str) -> None:
    """Restored from a snapshot, a shadow finds the same differences and sums as one that never stopped."""
    rig, rules = History(seed).play(STEPS), book(**PLANTED[planted])
    whole, first = twin_of(rules), twin_of(rules)
    expected = list(followed(whole, rig))
    found = list(followed(first, rig, 0, at))
    chunks = list(first.snapshot())
    again = Twin.restore(0, rules, chunks, run="run", name="test")
    found += followed(again, rig, at)
    assert found == expected
    assert again.sums == whole.sums
    assert list(again.snapshot()) == list(whole.snapshot())


@SOME
@given(SEEDS, st.integers(0, STEPS - 1))
def test_a_shadow_may_begin_anywhere(seed: int, at: int) -> None:
    """Beside a live router in the middle of its history, the same rules do not differ either."""
    history = History(seed)
    rig = history.play(STEPS)
    live = Router(0, book())
    for step in rig.steps[:at]:
        live.apply(step)
    assert list(followed(twin_of(book(), live), rig, at)) == []


class Seen(NamedTuple):
    """A difference, as far as both ways name it."""

    seq: int
    pool: str
    task_id: str
    live: tuple[str | None, str | None]
    shadow: tuple[str | None, str | None]


def said(decision: Decision) -> tuple[str, str]:
    """Give what a decision comes to."""
    return decision.outcome, decision.chosen_model or decision.reason_code


def by_brute_force(rig: RouterRig, rules: Rulebook) -> Iterator[Seen]:
    """Give the differences by a new router for each step, with no memory but of what was last reported of a task."""
    live = Router(0, rig.book)
    reported: dict[tuple[str, str], Any] = {}
    for step, batch in zip(rig.steps, rig.batches, strict=True):
        other = Router.restore(0, rules, live.snapshot()).handle(batch)
        lives = {one.decision_id: one for one in step.decisions}
        others = {one.decision_id: one for one in other.decisions}
        for key, one in (lives | others).items():
            place = (one.pool, one.task_id)
            row = live.task(*place)
            waits = row is not None and row.status.state == "waiting"
            before = ("waiting", row.status.headline) if waits and row is not None else (None, None)
            pair = (
                said(lives[key]) if key in lives else before,
                said(others[key]) if key in others else before,
            )
            if pair[0] == pair[1]:
                reported.pop(place, None)
            elif reported.get(place) != pair:
                reported[place] = pair
                yield Seen(step.seq, *place, *pair)
        live.apply(step)
        for place in list(reported):
            row = live.task(*place)
            if row is None or row.status.state != "waiting":
                del reported[place]


@pytest.mark.parametrize("planted", sorted(PLANTED))
@SOME
@given(SEEDS)
def test_a_planted_threshold_is_found_where_brute_force_finds_it(planted: str, seed: int) -> None:
    """Exactly the decisions that the one changed threshold touches, no more and no fewer."""
    rig = History(seed, book(service=ROOM)).play(STEPS)
    rules = book(**PLANTED[planted], service=ROOM)
    twin = Twin.beside(Router(0, rig.book), rules, run="run", name="test")
    found = [
        Seen(
            one.seq,
            one.pool,
            one.task_id,
            (one.live.outcome, one.live.model or one.live.reason_code),
            (one.shadow.outcome, one.shadow.model or one.shadow.reason_code),
        )
        for one in followed(twin, rig)
        if is_looked_at(one)
    ]
    assert found == list(by_brute_force(rig, rules))


def is_looked_at(one: ShadowDifference) -> bool:
    """Whether a difference is one of outcome, model or reason; the brute force looks at no others."""
    return one.kind not in ("other_slot", "other_class", "other_terms") and not (
        one.live.model is not None and one.live.model == one.shadow.model
    )


def test_through_many_stops_the_same_rules_never_differ() -> None:
    """Restarts, kills and hand-overs in a long history; `tests/support/shadow_run.py` runs a longer one by hand."""
    found = run(20_000, stops=0.03, snapshot_steps=40)
    assert found.differences == {}
    assert min(found.restarts, found.kills, found.hand_overs) > 0
    assert found.again > 100


def test_through_many_stops_each_difference_is_found_with_the_same_id() -> None:
    """A planted threshold: what is derived again is recognised, and the sums count it once."""
    found = run(5_000, changed={"\npriority_min = 90": "\npriority_min = 60"}, stops=0.1, snapshot_steps=30)
    assert found.differences
    assert found.duplicates > 0
