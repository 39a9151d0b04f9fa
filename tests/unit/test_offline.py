"""The offline bench counts right: the gap recovered is what a hand finds, and every rule serves the same work."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from streams.simulate.fleet import fleet
from streams.simulate.job import jobs
from streams.simulate.world import play
from tests.bench.offline.__main__ import main
from tests.bench.offline.curve import Curve, above_random, served
from tests.bench.offline.fleets import BOOK, MIXED, measure, rules
from tests.bench.offline.item import Item, gsm8k
from tests.bench.offline.kind import CODE, KNOWLEDGE, MATHS, kind_of
from tests.bench.offline.markdown import BEGIN, END, NoPlace, write
from tests.bench.offline.pairs import at_random
from tests.bench.offline.picker import asked, highest, learned, picked, routed, valued
from tests.bench.offline.source import SLICES, TRACE_SLICES, Source, SourceMissing
from tests.bench.offline.traces import traces


def item(weak: float, strong: float, sort: str = "anatomy", *, chars: int = 400) -> Item:
    """Give a question; the weak answer costs a cent, the strong one ten."""
    return Item(f"{sort}-{chars}", sort, kind_of(sort), chars, weak, strong, 0.01, 0.10)


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
    """The category comes from the source's own name for it."""
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


def test_the_router_asks_the_strong_model_where_a_bar_is_given() -> None:
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


def test_every_rule_serves_the_same_work_on_every_trace() -> None:
    """On the slices: all tasks are done once, and those that one rule serves all rules serve."""
    for calls_of in traces(Source()).values():
        work = jobs(calls_of(0, 10)[:60], fleet(MIXED, BOOK.models), BOOK, chance=random.Random(0), load=1.3)
        assert len(work) >= 50
        for make, counts in rules().values():
            served = play(work, fleet(counts, BOOK.models), make())
            assert sorted(one.job.task.task_id for one in served) == sorted(one.task.task_id for one in work)


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
    names = [str(path.relative_to(SLICES)) for path in SLICES.rglob("*.csv.gz")]
    names += [f"traces/{path.name}" for path in TRACE_SLICES.glob("*.csv.gz")]
    assert len(names) == 9
    for path in sorted(names):
        rows = Source().rows(path.removesuffix(".csv.gz"))
        assert not {"prompt", "turn1", "turn2", "title"} & rows[0].keys(), path
