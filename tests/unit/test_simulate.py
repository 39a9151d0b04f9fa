"""The simulation counts right: waits and value are what a hand finds, and baselines differ in their rule alone."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from msgspec import structs

from schemas.events import TaskPending
from schemas.vocabulary import from_millis
from streams.core.policy.catalog import Model
from streams.simulate.baselines import always_cheap, always_premium, highest_ev_first, next_free_slot, plain_a
from streams.simulate.experiment import lasting
from streams.simulate.fleet import Fleet, FleetError, fleet
from streams.simulate.job import EPOCH_MS, Job, able, jobs, paced
from streams.simulate.run_stats import run_stats
from streams.simulate.slotwise import Slotwise
from streams.simulate.trace import Call, DemandWindow, drawn, recorded
from streams.simulate.world import NeverServed, play
from tests.support.builders import rulebook

#: The shipped rules, with leases that outlast any work here.
BOOK = lasting(rulebook())
MIXED = {"opus": 1, "gpt-5": 1, "sonnet": 2, "codex": 2, "haiku": 4, "gemini-flash": 2}


def of(**slots: int) -> Fleet:
    """Give a fleet of the shipped catalogue."""
    return fleet(slots, BOOK.models)


def job(at_s: float, tokens: float, *, ev: float = 1.0, priority: int = 50, **requires: int) -> Job:
    """Give a job that comes so many seconds after the beginning."""
    at_ms = round(1000 * at_s)
    task = TaskPending(
        task_id=f"job-{at_ms}", pool="offline", at=from_millis(EPOCH_MS + at_ms), ev=ev, priority=priority,
        requires=requires,  # type: ignore[arg-type]  # dimensions by keyword
    )  # fmt: skip
    return Job(at_ms, task, 1.0, 1_000_000.0, tokens, ev, able(task, MIXED, BOOK))


def test_waits_in_a_line_are_what_a_hand_finds() -> None:
    """One haiku slot, three tasks of ten seconds that come at 0, 1 and 2: they wait 0, 9 and 18 seconds."""
    work = [job(0, 950, ev=1), job(1, 950, ev=2), job(2, 950, ev=1)]
    for scheduler in (next_free_slot(), plain_a(), Slotwise(BOOK)):
        served = play(work, of(haiku=1), scheduler)
        assert [one.wait_s for one in served] == [0, 9, 18]
        found = run_stats(served)
        assert (found.wait_s_p50, found.wait_s_max) == (9, 18)
        assert found.ev_wait_s == pytest.approx((0 + 2 * 9 + 18) / 4)
        # A million tokens in, 950 out, at haiku's prices.
        assert found.usd_per_task == pytest.approx(0.1 + 950 * 0.5 / 1e6)
        assert (found.tier_1, found.tier_3, found.premium_low_ev) == (1, 0, 0)


def test_the_premium_floor_keeps_opus_from_low_value_work() -> None:
    """Work of falling EV: FIFO hands some to opus, the premium floor does not once it knows the percentiles."""
    work = [job(at_s, 9500, ev=float(9 - at_s)) for at_s in range(9)]
    wasted = {
        name: run_stats(play(work, of(haiku=1, opus=1), scheduler)).premium_wasted
        for name, scheduler in (("fifo", next_free_slot()), ("a", plain_a()), ("slotwise", Slotwise(BOOK)))
    }
    assert wasted["fifo"] > 0
    assert wasted["a"] == wasted["slotwise"] == 0


def test_queues_differ_in_who_may_go_where() -> None:
    """With both free, one takes premium, one waits for cheap, and one takes what has been free longest."""
    work = [job(0, 950), job(1, 950)]
    slots = of(opus=1, haiku=1)
    assert [one.slot.model_id for one in play(work, slots, always_premium())] == ["opus", "opus"]
    assert [one.slot.model_id for one in play(work, slots, always_cheap())] == ["haiku", "haiku"]
    assert [one.slot.model_id for one in play(work, slots, next_free_slot())] == ["opus", "haiku"]


def test_the_highest_ev_goes_first_where_that_is_the_rule() -> None:
    """Of two that wait, the later one is worth more and is served first."""
    work = [job(0, 950), job(1, 950, ev=1), job(2, 950, ev=5)]
    served = play(work, of(haiku=1), highest_ev_first())
    assert [one.job.ev for one in served] == [1, 5, 1]


def test_a_bar_that_cheap_models_miss_sends_work_up() -> None:
    """Only opus meets a bar of 10 on coding in a fleet of haiku and opus: cheapest means opus then."""
    work = [job(0, 950, coding=10)]
    assert play(work, of(haiku=1, opus=1), always_cheap())[0].slot.model_id == "opus"


def test_a_job_that_never_gets_a_slot_is_an_error() -> None:
    """A fleet without premium slots never serves a rule that wants them."""
    with pytest.raises(NeverServed, match="1 of 1 jobs"):
        play([job(0, 950)], of(haiku=1), always_premium())


def test_a_load_is_of_the_tightest_tier() -> None:
    """Half of the work needs tier 3; two slots do 44 and 950 tokens a second: tier 3 takes ten times as long."""
    work = [job(0, 2200), job(1, 2200, coding=10)]
    paced_work = paced(work, of(opus=2, haiku=10), 0.5)
    assert paced_work[-1].at_ms == pytest.approx(1000 * 2200 / 44 / 0.5)


def test_the_same_seed_gives_the_same_work() -> None:
    """Two readings of a trace give the same jobs, another seed gives others."""
    calls = [Call(float(at_s), 100, 100) for at_s in range(50)]
    first, again, other = (
        [one.task for one in jobs(calls, fleet(MIXED, BOOK.models), BOOK, chance=random.Random(seed), load=0.9)]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_call_is_charged_at_the_prices_of_its_length_with_a_fee_for_each() -> None:
    """A job of ten calls of 150,000 tokens is no prompt of 1.5 million, and is not charged as short ones."""
    steep = BOOK.models["haiku"]
    (slot,) = fleet({"haiku": 1}, {"haiku": structs.replace(steep, request_usd=0.01)})
    task = TaskPending(task_id="t", pool="p", at=from_millis(EPOCH_MS), input_tokens=150_000)
    job = Job(0, task, 10.0, 1_500_000.0, 10_000.0, 1.0, {"haiku": 1})
    assert job.cost_usd(slot) == pytest.approx(0.75 + 0.025 + 0.1)


def test_a_fleet_names_models_that_can_be_simulated() -> None:
    """A model that the catalogue lacks, or of which it has no speed or price, is refused with its name."""
    with pytest.raises(FleetError, match="no model hiaku"):
        of(hiaku=1)
    slow: Mapping[str, Model] = {"local": rulebook().models["local"]}
    for lacking in ("speed_tps", "input_usd_per_mtok"):
        with pytest.raises(FleetError, match="of local"):
            fleet({"local": 1}, {"local": structs.replace(slow["local"], **{lacking: None})})


def test_work_beyond_the_fleet_is_refused() -> None:
    """A task whose requirements no model of the fleet meets would wait without end."""
    call = Call(
        0.0, 100, 100, task=TaskPending(task_id="t", pool="p", at=from_millis(EPOCH_MS), requires={"coding": 10})
    )
    with pytest.raises(FleetError, match="requirements of t"):
        jobs([call], of(haiku=1), BOOK, chance=random.Random(0), load=1.0)


def test_a_run_is_a_stretch_of_the_recording() -> None:
    """Of 100 calls, run 1 of 4 has the second 25, and counts time from its own first call."""
    trace = recorded([Call(float(at_s), at_s, 1) for at_s in range(100)])
    assert [(call.at_s, call.input_tokens) for call in trace(1, 4)] == [(float(n), 25 + n) for n in range(25)]


def test_demand_is_drawn_by_window_with_the_generator_of_the_run() -> None:
    """Three times the demand brings about three times the calls; the same generator gives the same ones."""
    windows = [DemandWindow(0, 1, 3.0), DemandWindow(0, 3, 1.0)]
    trace = drawn(windows, [(10, 20)], random.Random)
    calls = trace(0, 1)
    assert calls == trace(0, 1)
    assert calls != drawn(windows, [(10, 20)], lambda run: random.Random(run + 1))(0, 1)
    assert [call.at_s for call in calls] == sorted(call.at_s for call in calls)
    assert 2.3 < sum(call.tier == 1 for call in calls) / sum(call.tier == 3 for call in calls) < 3.9
