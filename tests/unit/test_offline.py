"""The offline bench counts right: gap recovered, waits and value are what a hand finds, and every rule serves all."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.events import TaskPending
from schemas.vocabulary import from_millis
from tests.bench.offline.__main__ import main
from tests.bench.offline.curve import Curve, above_random, served
from tests.bench.offline.fleets import measure, rules, shipped
from tests.bench.offline.item import Item, gsm8k
from tests.bench.offline.job import Job, able, jobs, paced
from tests.bench.offline.kind import CODE, KNOWLEDGE, MATHS, kind_of
from tests.bench.offline.markdown import BEGIN, END, NoPlace, write
from tests.bench.offline.pairs import at_random
from tests.bench.offline.picker import asked, highest, learned, picked, routed, valued
from tests.bench.offline.place import MIXED, fleet
from tests.bench.offline.plain_a import PlainA
from tests.bench.offline.queue import Queue, anybody, cheapest_only, premium_only
from tests.bench.offline.routed import Routed
from tests.bench.offline.source import SLICES, Source, SourceMissing
from tests.bench.offline.trace import Call, traces
from tests.bench.offline.waits import nearest_rank, waits
from tests.bench.offline.world import NeverServed, play
from tests.support.builders import START_MS


def item(weak: float, strong: float, sort: str = "anatomy", *, chars: int = 400) -> Item:
    """Give a question; the weak answer costs a cent, the strong one ten."""
    return Item(f"{sort}-{chars}", sort, kind_of(sort), chars, weak, strong, 0.01, 0.10)


def job(at_s: float, tokens: float, *, ev: float = 1.0, priority: int = 50, **requires: int) -> Job:
    """Give a job that comes so many seconds after the beginning."""
    at_ms = round(1000 * at_s)
    task = TaskPending(
        task_id=f"job-{at_ms}", pool="offline", at=from_millis(START_MS + at_ms), ev=ev, priority=priority,
        requires=requires,  # type: ignore[arg-type]  # dimensions by keyword
    )  # fmt: skip
    return Job(at_ms, task, 1_000_000.0, tokens, ev, able(task, MIXED))


#: Four questions: the strong model is better on two of them, and never worse. The gap is 3/4 - 1/4.
FOUR = (item(0, 1), item(0, 1), item(1, 1), item(0, 0))


def test_the_gap_recovered_is_what_a_hand_finds_on_four_items() -> None:
    """Asking the strong model for items 1, 3, 2, 4 in turn: PGR 1/2, 1/2, 1, 1, and the area under it is 5/8."""
    curve = Curve(FOUR, ([True, False, False, False], [True, False, True, False], [True, True, True, False]))
    assert curve.points() == [(0, 0), (0.25, 0.5), (0.5, 0.5), (0.75, 1), (1, 1)]
    assert curve.pgr_at(0.125) == pytest.approx(0.25)
    assert curve.pgr_at(0.5) == pytest.approx(0.5)
    # 1/4 x (0 + 1/2)/2 + 1/4 x 1/2 + 1/4 x (1/2 + 1)/2 + 1/4 x 1
    assert curve.apgr() == pytest.approx(0.625)


def test_an_item_drawn_twice_counts_twice() -> None:
    """With item 1 twice and item 4 not at all the gap is 3 of 4, and asking for item 1 alone recovers 2 of the 3."""
    curve = Curve(FOUR, ([True, False, False, False],))
    assert curve.points([2, 1, 1, 0]) == [(0, 0), (0.5, pytest.approx(2 / 3)), (1, 1)]


def test_what_is_served_is_counted_with_its_price() -> None:
    """Two strong answers and two weak ones: quality 3/4, 22 cents for four, and half as much again as a random mix."""
    own = served(FOUR, [True, True, False, False])
    assert (own.calls, own.quality, own.pgr) == (0.5, 0.75, 1.0)
    assert own.usd_per_1000 == pytest.approx(1000 * 0.22 / 4)
    lead = above_random(FOUR, [True, True, False, False])
    assert lead is not None
    assert lead.value == pytest.approx(0.5)


def test_without_a_gap_nothing_is_recovered() -> None:
    """Where the dearer model is the worse one, there is no PGR and no curve."""
    worse = (item(1, 0), item(1, 1))
    assert served(worse, [True, False]).pgr is None
    assert Curve(worse, ([True, False],)).apgr_interval() is None


def test_the_oracle_asks_for_the_gains_first() -> None:
    """Ordered by gain, the strong model's first calls are those that it wins."""
    gains = [one.gain for one in FOUR]
    assert highest(gains)[4] == [True, True, False, False]


def test_a_kind_is_known_by_its_name_alone() -> None:
    """Sums and code are told from knowledge by what the source calls them."""
    assert [kind_of(sort) for sort in ("gsm8k", "mbpp", "anatomy", "MMLU_management")] == [
        MATHS,
        CODE,
        KNOWLEDGE,
        KNOWLEDGE,
    ]


def test_no_mark_of_its_own_half_teaches_what_an_item_will_gain() -> None:
    """Turning all marks of one item round changes what others are expected to gain, and not what it is itself."""
    items = [item(0, 1, sort) for sort in ("anatomy", "virology") for _ in range(20)]
    before = learned(items)
    after = learned([item(1, 0, "anatomy"), *items[1:]])
    assert after[0] == before[0]
    assert after != before


def test_the_router_asks_the_strong_model_where_a_bar_is_told() -> None:
    """Without a bar or an EV questions look alike to it; a bar on reasoning leaves only the strong one."""
    items = (item(0, 1, "anatomy"), item(0, 1, "gsm8k"))
    assert list(routed(items, lambda place, now_ms: asked(items[place], place, now_ms))) == [False, True]


def test_the_router_lifts_the_highest_evs() -> None:
    """Given EVs, the share above the policy's percentile goes to the strong model, and it is the highest ones."""
    items = tuple(item(0, 1) for _ in range(200))
    evs = [float(place % 20) for place in range(200)]
    picks = routed(
        items,
        lambda place, now_ms: valued(items[place], place, now_ms, evs[place]),
        ev={"recompute_s": 1.0},
        lift={"ev_percentile": 0.5},
    )
    assert sum(picks) / len(picks) == pytest.approx(0.5, abs=0.1)
    assert sum(ev for ev, pick in zip(evs, picks, strict=True) if pick) / sum(picks) > 13


def test_waits_in_a_line_are_what_a_hand_finds() -> None:
    """One haiku slot, three tasks of ten seconds that come at 0, 1 and 2: they wait 0, 9 and 18 seconds."""
    work = [job(0, 950, ev=1), job(1, 950, ev=2), job(2, 950, ev=1)]
    for rule in (Queue(anybody), PlainA(), Routed(shipped())):
        done = play(work, fleet({"haiku": 1}), rule)
        assert [one.wait_s for one in done] == [0, 9, 18]
        found = waits(done)
        assert (found.wait_s_p50, found.wait_s_max) == (9, 18)
        assert found.ev_wait_s == pytest.approx((0 + 2 * 9 + 18) / 4)
        # A million tokens in, 950 out, at haiku's prices.
        assert found.usd_per_task == pytest.approx(0.1 + 950 * 0.5 / 1e6)
        assert (found.tier_1, found.tier_3, found.premium_low_ev) == (1, 0, 0)


def test_the_reserve_keeps_opus_from_work_that_is_worth_little() -> None:
    """Work of falling EV: FIFO hands some to opus, the reserve does not once it knows what is usual."""
    work = [job(at_s, 9500, ev=float(9 - at_s)) for at_s in range(9)]
    places = fleet({"haiku": 1, "opus": 1})
    wasted = {name: waits(play(work, places, rule)).premium_wasted for name, rule in (
        ("fifo", Queue(anybody)), ("a", PlainA()), ("slotwise", Routed(shipped())),
    )}  # fmt: skip
    assert wasted["fifo"] > 0
    assert wasted["a"] == wasted["slotwise"] == 0


def test_queues_differ_in_who_may_go_where() -> None:
    """With both free, one takes premium, one waits for cheap, and one takes what has been free longest."""
    work = [job(0, 950), job(1, 950)]
    places = fleet({"opus": 1, "haiku": 1})
    assert [one.place.model.id for one in play(work, places, Queue(premium_only))] == ["opus", "opus"]
    assert [one.place.model.id for one in play(work, places, Queue(cheapest_only))] == ["haiku", "haiku"]
    assert [one.place.model.id for one in play(work, places, Queue(anybody))] == ["opus", "haiku"]


def test_the_highest_ev_goes_first_where_that_is_the_rule() -> None:
    """Of two that wait, the later one is worth more and is served first."""
    work = [job(0, 950), job(1, 950, ev=1), job(2, 950, ev=5)]
    done = play(work, fleet({"haiku": 1}), Queue(anybody, by_ev=True))
    assert [one.job.ev for one in done] == [1, 5, 1]


def test_a_bar_that_cheap_models_miss_sends_work_up() -> None:
    """Only opus meets a bar of 10 on coding in a fleet of haiku and opus: cheapest means opus then."""
    work = [job(0, 950, coding=10)]
    assert play(work, fleet({"haiku": 1, "opus": 1}), Queue(cheapest_only))[0].place.model.id == "opus"


def test_a_job_that_no_slot_can_do_is_told() -> None:
    """A fleet without premium slots never serves a rule that wants them."""
    with pytest.raises(NeverServed, match="1 of 1 jobs"):
        play([job(0, 950)], fleet({"haiku": 1}), Queue(premium_only))


def test_a_load_is_of_the_tightest_tier() -> None:
    """Half of the work needs tier 3; two slots do 44 and 950 tokens a second: tier 3 takes ten times as long."""
    work = [job(0, 2200), job(1, 2200, coding=10)]
    paced_work = paced(work, fleet({"opus": 2, "haiku": 10}), 0.5)
    assert paced_work[-1].at_ms == pytest.approx(1000 * 2200 / 44 / 0.5)


def test_ranks_are_nearest_ranks() -> None:
    """The median of four is the second, the 99th percentile the last."""
    assert [nearest_rank([1, 2, 3, 4], share) for share in (0.5, 0.75, 0.99)] == [2, 3, 4]


def test_every_rule_serves_the_same_work_on_every_trace() -> None:
    """On the slices: all tasks are done once, and those that one rule serves all rules serve."""
    for calls_of in traces(Source()).values():
        work = jobs(calls_of(0, 10)[:60], fleet(MIXED), seed=0, load=1.3)
        assert len(work) >= 50
        for make, counts in rules().values():
            done = play(work, fleet(counts), make())
            assert sorted(one.job.task.task_id for one in done) == sorted(one.task.task_id for one in work)


def test_the_same_seed_gives_the_same_work() -> None:
    """Two readings of a trace give the same jobs, another seed gives others."""
    calls = [Call(float(at_s), 100, 100) for at_s in range(50)]
    first, again, other = ([one.task for one in jobs(calls, fleet(MIXED), seed=seed, load=0.9)] for seed in (1, 1, 2))
    assert first == again != other


def test_a_set_has_a_row_for_every_rule() -> None:
    """On the slice of gsm8k all rules pick for all items; the bars for sums send everything to the strong model."""
    data = gsm8k(Source())
    rows = {one.rule: one for one in picked(data)}
    assert {len(one.picks) for one in rows.values()} == {len(data.items)}
    assert sum(rows["plain [A]"].picks) == sum(rows["slotwise"].picks) == len(data.items)


def test_a_random_mix_recovers_half_of_the_gap_for_half_of_the_calls() -> None:
    """Its numbers are those of the average draw; single draws lie around it."""
    row = at_random(gsm8k(Source()))
    assert (row.served.calls, row.served.pgr) == (0.5, 0.5)
    assert row.apgr is not None
    assert row.apgr.low < row.apgr.value == 0.5 < row.apgr.high


def test_the_numbers_are_the_same_every_time() -> None:
    """No clock and no chance of its own."""
    once, again = (next(iter(measure(Source(), runs=2, loads=(1.3,)))) for _ in range(2))
    assert once == again


def test_tables_go_between_the_marks_of_a_file(tmp_path: Path) -> None:
    """What was between the marks is replaced, what is around them stays; a file without marks is left alone."""
    file = tmp_path / "offline.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(file, "new\n")
    assert file.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    file.write_text("no marks\n")
    with pytest.raises(NoPlace):
        write(file, "new\n")


def test_a_folder_without_the_data_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says which file it looked for, and ends with 2."""
    with pytest.raises(SourceMissing):
        Source(tmp_path).rows("quality/routellm_mmlu")
    assert main(["--data", str(tmp_path)]) == 2
    assert "routellm_mmlu.csv.gz" in capsys.readouterr().err


def test_the_slices_hold_no_text_of_others() -> None:
    """Only ids, kinds, lengths, marks, costs and times were taken over."""
    for path in sorted(SLICES.rglob("*.csv.gz")):
        rows = Source().rows(str(path.relative_to(SLICES)).removesuffix(".csv.gz"))
        assert not {"prompt", "turn1", "turn2", "title"} & rows[0].keys(), path
