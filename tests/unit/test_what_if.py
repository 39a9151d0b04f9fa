"""A recorded window under other rules: under the same ones nothing changes, and predictions are what playing gives."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.decision import Decision, Step
from schemas.vocabulary import Millis
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.estimate.service_time import TooFewOutcomes
from streams.replay.changed import rule_between
from streams.replay.continued import ReplayRefused, continued
from streams.replay.recording import Recording
from streams.replay.sample_journal import BEGIN_MS, sample_journal
from streams.replay.side import Course, Side, side_of, waits_of
from streams.replay.what_if import NothingRecorded, Question, WhatIf, what_if
from streams.replay.work_model import WorkModel
from streams.sample.play import engines
from streams.sample.work import tasks
from streams.settings import Settings
from streams.shipped import shipped
from tests.support.builders import decision, slot, task, working
from tests.support.router_rig import RouterRig

TASKS = 250


@cache
def book(lift: float = 0.90, *, without: str | None = None) -> Rulebook:
    """Give the shipped rules with lift from another percentile, or without a model."""
    catalog, policy = shipped("catalog.toml"), shipped("policy.toml")
    assert "ev_percentile = 0.90" in policy
    if without is not None:
        rows = catalog.split("[[model]]")
        catalog = "[[model]]".join(row for row in rows if f'id = "{without}"' not in row)
    return load_rulebook(catalog, policy.replace("ev_percentile = 0.90", f"ev_percentile = {lift}"))


@cache
def played(lift: float = 0.90, count: int = TASKS) -> tuple[Step, ...]:
    """Give the journal of the sample under these rules."""
    return tuple(sample_journal(book(lift), list(engines(Settings())), tasks("s", count)))


def recorded(steps: tuple[Step, ...] | list[Step], **window: int) -> Recording:
    """Give a recording of some steps."""
    recording = Recording(steps[0].partition, book(), **window)
    for step in steps:
        recording.add(step)
    return recording


def asked(recording: Recording, rulebook: Rulebook | None = None, **named: Any) -> WhatIf:
    """Ask what the window would have come to."""
    return what_if([recording], Question(rulebook=rulebook or book(), **named))


def side(steps: tuple[Step, ...]) -> Side:
    """Measure a journal."""
    recording = recorded(steps)
    evs = {key: row.ev for key, row in recording.tasks.items()}
    return side_of([Course(recording.steps, recording.end)], evs, starved_after_s=3_600)


@cache
def whole(lift: float = 0.90) -> WhatIf:
    """Ask about the whole sample."""
    return asked(recorded(played()), book(lift))


def test_under_the_same_rules_nothing_changes() -> None:
    """Every task gets the same model at the same time, so both sides are the same to the last dollar."""
    found = whole()
    assert found.recorded == found.replayed == side(played())
    assert (found.changed, found.changed_directly, found.changes) == (0, 0, [])
    assert found.tasks == TASKS
    assert found.recorded.done + found.recorded.failed == found.recorded.routed
    assert found.no_estimates is None, "no choice differs, so the log has the support that it needs"
    assert found.estimates is not None
    assert found.estimates.ips == found.estimates.logged


def test_a_window_in_the_middle_begins_with_what_was_there() -> None:
    """Waiting and running tasks, leases and percentiles are taken over; under the same rules nothing changes."""
    steps = played()
    from_ms, to_ms = steps[len(steps) // 3].now_ms, steps[2 * len(steps) // 3].now_ms
    found = asked(recorded(steps, from_ms=from_ms, to_ms=to_ms))
    assert (found.from_ms, found.to_ms) == (from_ms, to_ms)
    assert found.steps < len(steps) / 2
    assert found.changed == 0
    assert found.recorded == found.replayed
    assert found.recorded.routed > 0


def test_what_is_predicted_of_another_policy_is_what_playing_it_gives() -> None:
    """The sample is really played under lift from P70: money, EV, tiers and waits are near what the replay says."""
    found, truth = asked(recorded(played(count=800)), book(0.70)), side(played(0.70, 800))
    assert found.changed_directly is not None
    assert 0 < found.changed_directly < found.changed
    assert "lift" in found.rules
    predicted = found.replayed
    assert predicted.usd == pytest.approx(truth.usd, rel=0.05)
    assert predicted.ev_served == pytest.approx(truth.ev_served, rel=0.02)
    assert predicted.tiers["3"] == pytest.approx(truth.tiers["3"], abs=0.02)
    assert predicted.waits.p95_s == pytest.approx(truth.waits.p95_s, rel=0.35)


def test_a_policy_without_chance_gets_no_estimate_and_is_said_why() -> None:
    """Lift from P70 chooses differently where nothing was left to chance."""
    found = whole(0.70)
    assert found.estimates is None
    assert "propensity 1" in (found.no_estimates or "")
    assert "It would take exploration" in (found.no_estimates or "")


def test_the_error_of_fitted_times_is_stated_and_recorded_times_say_so() -> None:
    """With recorded times nothing is fitted, and a note says what that means."""
    found = whole(0.70)
    assert found.times_error is not None
    assert found.times_error.median_error < 0.25
    kept = asked(recorded(played()), book(0.70), times="recorded")
    assert kept.times_error is None
    assert "Attempts take and end as recorded" in kept.notes[0]
    assert kept.replayed != found.replayed


def test_another_fleet_takes_the_place_of_the_recorded_slots() -> None:
    """Half as many slots of two models: waits grow, other models do nothing, and the note names what was never seen."""
    found = asked(recorded(played()), fleet={"opus": 1, "sonnet": 3})
    assert set(found.replayed.models) == {"opus", "sonnet"}
    assert found.replayed.waits.p95_s > found.recorded.waits.p95_s
    steps = played()
    middle = recorded(steps, from_ms=steps[len(steps) // 2].now_ms)
    later = asked(middle, fleet={"opus": 2, "haiku": 9})
    assert later.replayed.models["haiku"] > later.recorded.models["haiku"]
    assert set(later.replayed.models) == {"opus", "haiku"}


def test_a_catalogue_that_lacks_a_model_in_use_is_refused() -> None:
    """In the middle of a run the slots are there; the sentence names the model."""
    steps = played()
    middle = recorded(steps, from_ms=steps[len(steps) // 2].now_ms)
    with pytest.raises(ReplayRefused, match="lacks glm"):
        asked(middle, book(without="glm"))
    from_the_begin = asked(recorded(steps), book(without="glm"))
    assert "glm" not in from_the_begin.replayed.models
    assert "1 recorded events are refused under these rules" in from_the_begin.notes[-1]


def test_a_journal_whose_first_steps_are_gone_is_read_all_the_same() -> None:
    """Slots are there from the first step that names them; nothing is estimated, and a note says what is left out."""
    steps = played()
    found = asked(recorded(steps[len(steps) // 3 :]))
    assert found.recorded.routed > 0
    assert found.replayed.routed > 0.9 * found.recorded.routed
    assert "first steps are gone" in (found.no_estimates or "")
    assert any("first steps are gone" in one for one in found.notes)


def test_an_empty_window_says_what_it_holds() -> None:
    """Slots came, and no task was routed; or nothing was recorded at all."""
    rig = RouterRig("haiku-1")
    with pytest.raises(NothingRecorded, match=r"\(1 steps\)"):
        asked(recorded(rig.steps))
    with pytest.raises(NothingRecorded, match=r"\(0 steps\)"):
        asked(recorded(played(), from_ms=BEGIN_MS + 10**9))


def rigged(rig: RouterRig) -> list[Step]:
    """Replay what a rig recorded, with recorded times, and give the steps."""
    recording = Recording(0, rig.book)
    for step in rig.steps:
        recording.add(step)
    work = WorkModel([one.seen for one in recording.ended], "recorded", same_prices=True)
    return continued(recording, rig.book, work).steps


def routed(steps: list[Step]) -> list[Decision]:
    """Give the choices of some steps."""
    return [one for step in steps for one in step.decisions if one.outcome == "routed"]


def summary(decisions: list[Decision]) -> list[tuple[str, int, str | None, int]]:
    """Say of choices what they are about."""
    return [(one.task_id, one.attempt, one.chosen_slot_id, one.decided_at_ms) for one in decisions]


def test_lost_and_restarted_slots_fall_silent_as_recorded() -> None:
    """A lease that ran out, a restart and a slot that leaves: the same choices at the same times."""
    rig = RouterRig("haiku-1", "haiku-2")
    rig.hand_in(task("t-1"), task("t-2"), after_s=1)
    rig.ends("t-1", after_s=30)
    rig.wait(1_770)
    assert rig.router.state.pools["main"].slots["haiku-2"].state == "lost"
    rig.hand_in(task("t-3"), after_s=10)
    rig.ends("t-2", after_s=30)
    rig.hand_in(*_announced(rig, "haiku-2"), after_s=10)
    rig.hand_in(task("t-4"), after_s=10)
    rig.hand_in(*_announced(rig, "haiku-1"), after_s=10)
    live = routed(rig.steps)
    assert summary(routed(rigged(rig))) == summary(live)
    assert [one.attempt for one in live] == [1, 1, 2, 1, 1, 2]


def _announced(rig: RouterRig, slot_id: str) -> list[Any]:
    return [slot(slot_id, at_ms=rig.now_ms + 10_000)]


def test_work_longer_than_a_lease_renews_it() -> None:
    """An hour of work under leases of half an hour, which the replayed slot renews as its dispatcher did."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("t-1"), after_s=1)
    (lease,) = (one.lease or 0 for one in rig.steps[-1].decisions)
    for _ in range(3):
        rig.hand_in(working("haiku-1", lease, at_ms=rig.now_ms + 1_200_000), after_s=1_200)
    rig.ends("t-1", after_s=60)
    rig.hand_in(task("t-2"), after_s=1)
    steps = rigged(rig)
    assert [one[:3] for one in summary(routed(steps))] == [("t-1", 1, "haiku-1"), ("t-2", 1, "haiku-1")]
    assert "lost" not in {slot.state for step in steps for slot in step.slots}


@pytest.mark.parametrize(
    ("recorded_verdicts", "replayed_verdicts", "named", "rule"),
    [
        ({"opus": "chosen", "haiku": "ok"}, {"opus": "premium", "haiku": "chosen"}, {}, "premium"),
        ({"opus": "chosen", "haiku": "credit"}, {"opus": "ok", "haiku": "chosen"}, {}, "credit"),
        ({"opus": "chosen", "haiku": "ok"}, {"opus": "ok", "haiku": "chosen"}, {"lifted": True}, "lift"),
        ({"opus": "chosen", "haiku": "ok"}, {"opus": "busy", "haiku": "chosen"}, {}, "busy"),
        ({"opus": "chosen", "haiku": "busy"}, {"opus": "ok", "haiku": "chosen"}, {}, "busy"),
        (
            {"opus": "chosen", "haiku": "ok"},
            {"opus": "ok", "haiku": "chosen"},
            {"reason_code": "objective"},
            "strategy",
        ),
        ({"opus": "chosen", "haiku": "ok"}, {"opus": "ok", "haiku": "chosen"}, {}, "tier"),
    ],
)
def test_the_rule_between_two_choices_is_named(
    recorded_verdicts: dict[str, str], replayed_verdicts: dict[str, str], named: dict[str, Any], rule: str
) -> None:
    """Gates first, then lift, then slots, then the strategy."""
    was, became = (
        decision(
            chosen_model=next(model for model, gate in verdicts.items() if gate == "chosen"),
            alternatives={model: {"gate": gate} for model, gate in verdicts.items()},
        )
        for verdicts in (recorded_verdicts, replayed_verdicts)
    )
    assert rule_between(replace(was, **named), became) == rule


def test_percentiles_are_by_nearest_rank() -> None:
    """Of twenty waits the tenth and the nineteenth; of none all are 0."""
    found = waits_of([float(n) for n in range(20, 0, -1)])
    assert (found.p50_s, found.p95_s, found.max_s) == (10, 19, 20)
    assert waits_of([]).max_s == 0


def test_too_little_work_is_no_answer() -> None:
    """One task that is never done says nothing of how long work takes."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("t-1"), after_s=1)
    recording = Recording(0, rig.book, to_ms=Millis(rig.now_ms))
    for step in rig.steps:
        recording.add(step)
    with pytest.raises(TooFewOutcomes, match="No work ended"):
        what_if([recording], Question(rulebook=rig.book))
