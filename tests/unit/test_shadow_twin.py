"""A shadow of one partition: what differs, once; the fleet's moves as given; rules of its own whatever is activated."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.events import PolicyActivated
from schemas.shadow import ShadowDifference
from schemas.vocabulary import from_millis
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.core.router import Router
from streams.shadow.twin import ShadowCannotFollow, Twin
from streams.shipped import shipped
from tests.support.builders import START_MS, cancelled, rulebook, slot, task
from tests.support.router_rig import RouterRig


class Pair:
    """A live router and its shadow, which takes each step as it comes."""

    def __init__(self, rules: Rulebook, *, book: Rulebook | None = None) -> None:
        self.rig = RouterRig(book=book or rulebook())
        self.twin = Twin.beside(Router(0, self.rig.book), rules, run="r-1", name="cheap")
        self._taken = 0

    def after(self, *_: Any) -> list[ShadowDifference]:
        """Give what differs at the steps since the last time."""
        found: list[ShadowDifference] = []
        for step, batch in zip(self.rig.steps[self._taken :], self.rig.batches[self._taken :], strict=True):
            found += self.twin.take(step, batch)
        self._taken = len(self.rig.steps)
        return found


def with_a_reserved_slot(rules: Rulebook | None = None, *, book: Rulebook | None = None) -> Pair:
    """Give a fleet whose cheap slot is busy and whose premium one is for tasks of a high EV, in the live policy.

    The shadow's has no such floor, if nothing else is said.
    """
    pair = Pair(rules or rulebook(premium={"priority_min": 40}), book=book)
    names = [f"ev-{n}" for n in range(1, 7)]
    pair.rig.hand_in(*(task(name, ev=float(n)) for n, name in enumerate(names, 1)))
    pair.rig.hand_in(*(cancelled(name, control_id=f"c-{name}") for name in names))
    pair.rig.hand_in(slot("haiku-1"))
    pair.rig.hand_in(task("busy"))
    pair.rig.hand_in(slot("opus-1"))
    assert kinds(pair.after()) == []
    return pair


def kinds(found: list[ShadowDifference]) -> list[tuple[str, str]]:
    """Give the tasks with the kinds of their differences."""
    return [(one.task_id, one.kind) for one in found]


def test_another_model_is_a_difference_with_both_sides_and_their_rules() -> None:
    """A class that needs tier 2 in the shadow's policy; the row names hashes, sentences and estimates of both."""
    pair = Pair(rulebook(complexity_tier_min={"trivial": 2}))
    pair.rig.hand_in(slot("haiku-1"), slot("sonnet-1"))
    pair.rig.hand_in(task("t-1", complexity="trivial", ev=4.0, input_tokens=1000, output_tokens=100))
    (one,) = pair.after()
    (live,) = pair.rig.decisions("t-1")
    assert (one.kind, one.live.model, one.shadow.model) == ("other_model", "haiku", "sonnet")
    assert (one.difference_id, one.partition, one.seq, one.run, one.name) == (live.decision_id, 0, 1, "r-1", "cheap")
    assert one.live.reason == live.reason
    assert one.shadow.reason != live.reason
    assert (one.shadow.reason_code, one.ev) == ("cheapest_capable", 4.0)
    assert (one.live.estimated_cost_uusd or 0) < (one.shadow.estimated_cost_uusd or 0)
    assert (one.policy, one.live_policy) == (pair.twin.router.rulebook.policy_hash, pair.rig.book.policy_hash)


def test_the_fleets_moves_are_taken_as_given() -> None:
    """After a task went to another model than the shadow's, the next one finds the slots as they really are."""
    pair = Pair(rulebook(complexity_tier_min={"trivial": 2}))
    pair.rig.hand_in(slot("haiku-1"), slot("haiku-2"), slot("sonnet-1"))
    pair.rig.hand_in(task("t-1", complexity="trivial"))
    pair.rig.hand_in(task("t-2"))
    pair.rig.ends("t-1", after_s=30)
    assert kinds(pair.after()) == [("t-1", "other_model")]
    assert pair.twin.router.state.pools["main"].slots == pair.rig.router.state.pools["main"].slots


def test_what_the_shadow_would_route_is_reported_once_for_as_long_as_it_waits() -> None:
    """A premium slot is free at each step, and the shadow would use it at each."""
    pair = with_a_reserved_slot()
    pair.rig.hand_in(task("t-1", ev=0.2), after_s=1)
    assert kinds(pair.after()) == [("t-1", "routes_instead")]
    for number in range(3):
        pair.rig.hand_in(task(f"more-{number}", ev=0.1), after_s=1)
        assert kinds(pair.after()) == [(f"more-{number}", "other_reason")]


def test_another_headline_is_kept_as_the_shadows_own() -> None:
    """It is reported once, and neither later steps nor a new announcement of the live side repeat it."""
    pair = Pair(rulebook(complexity_tier_min={"trivial": 3}))
    pair.rig.hand_in(slot("haiku-1"))
    pair.rig.hand_in(task("busy"))
    pair.rig.hand_in(task("t-1", complexity="trivial"))
    assert [(one.kind, one.live.reason_code, one.shadow.reason_code) for one in pair.after()] == [
        ("other_reason", "capable_busy", "floor")
    ]
    row = pair.twin.router.task("main", "t-1")
    assert row is not None
    assert row.status.headline == "floor"
    pair.rig.hand_in(task("t-2"), after_s=1)
    assert kinds(pair.after()) == []


def test_a_wait_that_only_the_shadow_keeps_is_a_difference() -> None:
    """The live side routes; the shadow still waits, and says what for."""
    pair = Pair(rulebook(complexity_tier_min={"trivial": 3}))
    pair.rig.hand_in(slot("haiku-1"))
    pair.rig.hand_in(task("t-1", complexity="trivial"))
    (one,) = pair.after()
    assert (one.kind, one.live.outcome, one.shadow.outcome) == ("waits_instead", "routed", "waiting")
    assert one.shadow.reason_code == "floor"


def test_a_policy_that_is_activated_live_does_not_become_the_shadows() -> None:
    """The shadow keeps its rules, so that it differs from then on where they differ."""
    policy = shipped("policy.toml").replace("\npriority_min = 90", "\npriority_min = 40")
    book = load_rulebook(shipped("catalog.toml"), shipped("policy.toml"))
    changed = load_rulebook(shipped("catalog.toml"), policy)
    assert changed.policy_hash != book.policy_hash
    pair = with_a_reserved_slot(book, book=book)
    pair.rig.hand_in(task("t-1", ev=0.1), after_s=1)
    assert pair.after() == []
    event = PolicyActivated(
        control_id="a-1",
        at=from_millis(START_MS),
        by="op",
        policy=changed.policy_hash,
        catalog=changed.catalog_hash,
        policy_text=policy,
        catalog_text=shipped("catalog.toml"),
    )
    pair.rig.hand_in(event)
    assert kinds(pair.after()) == [("t-1", "waits_instead")]
    assert pair.rig.router.rulebook.policy_hash == changed.policy_hash
    assert pair.twin.router.rulebook.policy_hash == book.policy_hash
    # A shadow that begins beside the live router has its own rules, too.
    assert Twin.beside(pair.rig.router, book, run="r", name="n").router.rulebook is book


def test_a_catalogue_without_a_model_of_the_fleet_is_refused() -> None:
    """At the start, and when a slot with such a model comes."""
    lacking = rulebook(without=["opus"])
    pair = Pair(lacking)
    pair.rig.hand_in(slot("opus-1"))
    with pytest.raises(ShadowCannotFollow, match="shadow cheap lacks opus"):
        pair.after()
    with pytest.raises(ShadowCannotFollow, match="lacks opus"):
        Twin.beside(pair.rig.router, lacking, run="r", name="n")


def test_the_sums_count_each_attempt_once_a_side() -> None:
    """What the shadow would have routed before is not counted again when it is routed."""
    pair = with_a_reserved_slot()
    pair.rig.hand_in(task("t-1", ev=0.1), after_s=1)
    pair.rig.ends("busy", after_s=60)
    pair.after()
    sums = pair.twin.sums
    assert (sums.live.models, sums.shadow.models) == ({"haiku": 2}, {"haiku": 1, "opus": 1})
    assert (sums.live.tiers, sums.shadow.tiers) == ({1: 2}, {1: 1, 3: 1})
    assert (sums.live.waited, sums.live.wait_ms, sums.shadow.waited) == (1, 60_000, 0)
    assert sums.differences == {"routes_instead": 1}
