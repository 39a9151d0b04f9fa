"""Baselines differ in their rule alone, foresight is a limit, and pieces of a recording stay as they were."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from msgspec import structs

from schemas.events import TaskPending
from schemas.vocabulary import from_millis
from streams.simulate.baselines import BASELINES, by_text, fifo_cheapest, next_free_slot
from streams.simulate.fleet import Fleet, FleetError, fleet
from streams.simulate.job import EPOCH_MS, Job, able, jobs, on, sent
from streams.simulate.oracle import Oracle, ev_bound
from streams.simulate.run_stats import run_stats
from streams.simulate.trace import CALLS_A_PIECE, Call, resampled
from streams.simulate.world import play, played
from tests.support.builders import rulebook, task

BOOK = rulebook()


def of(**slots: int) -> Fleet:
    """Give a fleet of the shipped catalogue."""
    return fleet(slots, BOOK.models)


def job(at_s: float, tokens: float, slots: Fleet, *, ev: float = 1.0, title: str = "") -> Job:
    """Give a job that every model of the fleet can do."""
    at_ms = round(1000 * at_s)
    event = TaskPending(task_id=f"job-{at_ms}", pool="p", at=from_millis(EPOCH_MS + at_ms), ev=ev, title=title)
    return Job(at_ms, event, 1.0, 1000.0, tokens, ev, {slot.model_id: slot.tier for slot in slots})


def test_fifo_takes_the_cheapest_free_slot_and_waits_for_none() -> None:
    """With opus free longest and haiku free too, it takes haiku; the next task takes opus rather than wait."""
    slots = of(opus=1, haiku=1)
    work = [job(0, 950, slots), job(1, 950, slots)]
    assert [one.slot.model_id for one in play(work, slots, fifo_cheapest())] == ["haiku", "opus"]
    assert [one.slot.model_id for one in play(work, slots, next_free_slot())] == ["opus", "haiku"]


def test_another_router_names_the_tier_by_the_title() -> None:
    """It waits for that tier though another slot is free; a tier that nothing there has means the next higher."""
    slots = of(opus=1, haiku=1)
    work = [job(at, 950, slots, title=title) for at, title in enumerate(("easy", "easy", "hard"))]
    tiers = {"easy": 1, "hard": 2}
    assert [one.slot.model_id for one in play(work, slots, by_text(tiers))] == ["haiku", "opus", "haiku"]  # type: ignore[arg-type]  # tiers


def test_the_oracle_does_short_work_of_the_same_value_first() -> None:
    """It knows how long work takes: of two that wait, the one of more EV a second goes first."""
    slots = of(haiku=1)
    work = [job(0, 950, slots), job(1, 9500, slots, ev=2), job(2, 950, slots, ev=1)]
    assert [one.job.ev for one in play(work, slots, Oracle())] == [1, 1, 2]


def test_no_rule_does_more_than_the_bound() -> None:
    """Random work in overload: every baseline stays below, and the bound is below the EV of all work."""
    chance = random.Random(1)
    slots = of(opus=1, haiku=2)
    work = [
        job(number * 4.0, chance.expovariate(1 / 2000), slots, ev=chance.lognormvariate(1, 1)) for number in range(200)
    ]
    until_ms = work[-1].at_ms
    limit = ev_bound(work, slots, until_ms)
    done = {
        name: sum(one.job.ev or 0 for one in play(work, slots, make()) if one.end_ms <= until_ms)
        for name, make in BASELINES.items()
    }
    assert max(done.values()) <= limit < sum(one.ev or 0 for one in work)
    assert done["oracle"] > 0.8 * limit


def test_the_bound_is_exact_where_a_hand_finds_it() -> None:
    """A slot of 100 s and three tasks of 60 s, all there at once: the best, and two thirds of the second."""
    slots = of(haiku=1)
    work = [structs.replace(job(0, 95 * 60, slots, ev=ev), at_ms=0) for ev in (3.0, 2.0, 1.0)]
    assert ev_bound(work, slots, 100_000) == pytest.approx(3 + 2 * 40 / 60, rel=0.01)


def test_who_can_do_a_task_follows_the_bounds_of_its_producer() -> None:
    """Providers, places and tiers that the producer names hold for every rule."""
    models = ("opus", "haiku", "local")
    assert set(able(task(), models, BOOK)) == set(models)
    assert set(able(task(local_only=True), models, BOOK)) == {"local"}
    assert set(able(task(max_tier=1), models, BOOK)) == {"haiku", "local"}
    assert set(able(task(floor_model="opus"), models, BOOK)) == {"opus"}
    assert set(able(task(deny_providers=(BOOK.models["opus"].provider,)), models, BOOK)) == {"local"}


def test_the_same_jobs_go_to_another_fleet() -> None:
    """Only who can do them differs; a fleet that cannot is refused."""
    hard = Call(0.0, 10, 10, task=task(requires={"coding": 10}))
    made = jobs([hard], of(opus=1, haiku=1), BOOK, chance=random.Random(0), load=None, task_s=None)
    (moved,) = on(made, of(opus=2), BOOK)
    assert (moved.task, moved.at_ms, set(moved.able)) == (made[0].task, made[0].at_ms, {"opus"})
    with pytest.raises(FleetError, match="t-1"):
        on(made, of(haiku=1), BOOK)


def test_overhead_is_time_on_every_model() -> None:
    """Two seconds beyond the answer's ten, at haiku's speed."""
    call = Call(0.0, 10, 950, task=task(), overhead_s=2.0)
    (made,) = jobs([call], of(haiku=1), BOOK, chance=random.Random(0), load=None, task_s=None)
    assert made.service_ms(of(haiku=1)[0]) == 12_000


def test_a_rate_is_of_an_hour() -> None:
    """Sixty tasks at 120 an hour come within half an hour."""
    slots = of(haiku=1)
    assert sent([job(at, 1, slots) for at in range(60)], 120)[-1].at_ms == 1_800_000


def test_jobs_that_no_rule_serves_can_be_left_out() -> None:
    """A fleet without premium slots, and a rule that waits for them."""
    slots = of(haiku=1)
    assert played([job(0, 10, slots)], slots, BASELINES["always-premium"]()) == []


def test_pieces_of_a_recording_stay_as_they_were() -> None:
    """Neighbours of a piece are neighbours in the recording, at the recorded gap; the same generator gives the same."""
    calls = [Call(at_s=float(at * at), input_tokens=at, output_tokens=1, task=task(f"t-{at}")) for at in range(200)]
    made = resampled(calls, 500, random.Random(3))
    assert made == resampled(calls, 500, random.Random(3)) != resampled(calls, 500, random.Random(4))
    assert len(made) == 500
    assert len({one.task.task_id for one in made if one.task}) == 500
    seams = 0
    for number, (before, after) in enumerate(pairwise(made), start=1):
        if after.input_tokens == before.input_tokens + 1:
            assert after.at_s - before.at_s == pytest.approx(
                calls[after.input_tokens].at_s - calls[before.input_tokens].at_s
            )
        else:
            seams += number % CALLS_A_PIECE != 0 and after.input_tokens != 0
    assert seams == 0


def test_stats_need_no_ev() -> None:
    """Work without a known EV counts as worth nothing."""
    slots = of(haiku=1)
    found = run_stats(play([structs.replace(job(0, 950, slots), ev=None)], slots, fifo_cheapest()))
    assert (found.ev_per_h, found.ev_wait_s) == (0, 0)
