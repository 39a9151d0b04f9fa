"""A shadow with slots of its own: on the live slots it never differs, on others its choices have consequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import pytest

from schemas.decision import Step
from schemas.shadow import ShadowDifference
from schemas.steps import decode_step, encode_step
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.replay.work_seen import WorkSeen
from streams.shadow.own_world import OwnWorld
from streams.shadow.twin import OtherRun, ShadowCannotFollow
from tests.unit.test_what_if import book, played, recorded

COUNT = 400


@cache
def journal() -> tuple[Step, ...]:
    """Give the sample's journal as records give it."""
    return tuple(decode_step(encode_step(step)) for step in played(count=COUNT))


def live_at(at: int) -> Router:
    """Give the live router before a step."""
    live = Router(0, book())
    for step in journal()[:at]:
        live.apply(step)
    return live


def seen_before(at: int) -> list[WorkSeen]:
    """Give the work that had ended before a step."""
    return [one.seen for one in recorded(journal()[:at]).ended]


def fleet_of(live: Router) -> dict[str, int]:
    """Give the slots of a live fleet."""
    return dict(Counter(slot.model for slot in live.state.pools["main"].slots.values()))


def beside(fleet: dict[str, int] | None = None, rules: Rulebook | None = None, *, at: int = 200) -> OwnWorld:
    """Give a shadow that begins in the middle, with the live slots if nothing else is said."""
    live = live_at(at)
    return OwnWorld.beside(
        live, rules or book(), fleet_of(live) if fleet is None else fleet, seen_before(at), run="r-1", name="more"
    )


def followed(own: OwnWorld, steps: Sequence[Step] | None = None) -> list[ShadowDifference]:
    """Give what differs in the rest of the journal, or in some steps of it."""
    rest = journal()[own.seq :] if steps is None else steps
    return [one for step in rest for one in own.take(step)]


def test_on_the_live_slots_the_same_rules_never_differ() -> None:
    """Its work ends when the live work does, so its world stays the live one, whatever times were fitted."""
    own = beside()
    assert followed(own) == []
    assert own.sums.live == own.sums.shadow
    assert own.sums.live.routed > COUNT / 2
    assert own.sums.decisions > own.sums.live.routed


def test_fewer_slots_let_work_wait() -> None:
    """What the live side gives a slot waits: reported when one side chooses, and when the other chooses otherwise."""
    own = beside({"opus": 1, "sonnet": 2, "haiku": 1})
    found = followed(own)
    kinds = Counter(one.kind for one in found)
    assert kinds["waits_instead"] > 50
    assert kinds["other_model"] > 50
    assert dict(kinds) == own.sums.differences
    assert {one.shadow.model for one in found if one.shadow.model} <= {"opus", "sonnet", "haiku"}
    mine, theirs = own.sums.shadow, own.sums.live
    assert mine.wait_ms / mine.routed > 2 * theirs.wait_ms / theirs.routed
    (first, *_) = [one for one in found if one.kind == "waits_instead"]
    assert (first.live.outcome, first.shadow.outcome) == ("routed", "waiting")
    assert len({one.difference_id for one in found}) == len(found)


def test_more_slots_are_used_and_come_free_by_fitted_times() -> None:
    """Slots that the live fleet lacks do work that the live side does elsewhere, one piece after the other."""
    live = fleet_of(live_at(200))
    own = beside(live | {"opus": live["opus"] + 3})
    found = followed(own)
    more = own.sums.shadow.models["opus"] - own.sums.live.models["opus"]
    assert more > 10
    assert "other_model" in {one.kind for one in found}
    assert any("replay:opus" in (one.shadow.slot_id or "") for one in found)
    assert own.sums.shadow.routed > 0.9 * own.sums.live.routed
    own.router.validate()


@pytest.mark.parametrize("stop", [0, 1, 57, 180])
def test_a_stop_anywhere_changes_nothing(stop: int) -> None:
    """Restored from a snapshot it finds the same differences and sums as one that never stopped."""
    fleet = {"opus": 2, "sonnet": 3, "haiku": 2}
    whole, first = beside(fleet), beside(fleet)
    steps = journal()[whole.seq :]
    expected = followed(whole)
    found = followed(first, steps[:stop])
    again = OwnWorld.restore(0, book(), fleet, list(first.snapshot()), run="r-1", name="more")
    assert list(again.snapshot()) == list(first.snapshot())
    found += followed(again, steps[stop:])
    assert found == expected
    assert list(again.snapshot()) == list(whole.snapshot())
    with pytest.raises(OtherRun):
        OwnWorld.restore(0, book(), fleet, list(first.snapshot()), run="r-2", name="more")


def test_it_may_begin_where_nothing_is_yet() -> None:
    """A pool gets its slots with its first task."""
    own = OwnWorld.beside(Router(0, book()), book(), {"opus": 9, "haiku": 9}, seen_before(300), run="r", name="n")
    followed(own)
    assert set(own.sums.shadow.models) == {"opus", "haiku"}
    assert own.sums.shadow.routed > 0.9 * own.sums.live.routed


def test_another_policy_on_other_slots_is_its_own() -> None:
    """Rules of its own are in force, and stay so."""
    own = beside({"opus": 2, "sonnet": 5, "haiku": 4}, book(0.5))
    found = followed(own)
    assert {one.policy for one in found} == {book(0.5).policy_hash}
    assert {one.live_policy for one in found} == {book().policy_hash}
    assert "lifted" in {one.shadow.reason_code for one in found}


def test_too_little_work_and_a_lacking_model_are_refused() -> None:
    """Both with what to do."""
    with pytest.raises(ShadowCannotFollow, match=r"0 pieces of work.*without --fleet"):
        OwnWorld.beside(live_at(0), book(), {"opus": 1}, [], run="r", name="n")
    with pytest.raises(ShadowCannotFollow, match="lacks glm"):
        beside(rules=book(without="glm"))
