"""An experiment's numbers: the same for any number of processes, with honest intervals, and pictures of them."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from streams import cli
from streams.estimate.interval import Interval, of_few, student_t
from streams.operate.plan import books, cells
from streams.operate.simulation import runner
from streams.settings import Settings
from streams.simulate.experiment import OURS, RULES, Bench, Cell, Pace, Plan
from streams.simulate.picture import Curve, Point, frontier, pareto, waits
from streams.simulate.results import rows
from streams.simulate.sizing import size
from streams.simulate.trace_file import bundled


def plan(**fields: object) -> Plan:
    """Give a small plan of the shipped policy on a small fleet."""
    shipped = next(iter(books(Settings(), [], []).values()))[0]
    defaults = {
        "recording": bundled("azure_conv"),
        "books": (shipped,),
        "fleets": ({"opus": 1, "haiku": 2},),
        "seeds": 2,
        "tasks": 40,
    }
    return Plan(**{**defaults, **fields})  # type: ignore[arg-type]  # fields by name


def test_numbers_do_not_depend_on_the_number_of_processes() -> None:
    """Two processes and this one give the same runs for every cell and seed."""
    made = plan()
    wanted = cells(made, [OURS, "next-free", "oracle"], [Pace(load=1.2)])
    seen: list[int] = []
    with runner(made, 1) as here, runner(made, 2) as there:
        alone, shared = here(wanted, seen.append), there(wanted, seen.append)
    assert alone == shared
    assert seen == [1, 2, 3, 4, 5, 6] * 2
    assert len(alone) == 6


def test_every_rule_has_the_same_work_in_a_run() -> None:
    """The tasks, their times and their worth are the same; other seeds have other ones."""
    bench = Bench(plan(fleets=({"opus": 1, "haiku": 2}, {"opus": 2, "haiku": 2})))

    def work(rule: str, fleet: int, seed: int) -> list[tuple[str, int, float | None]]:
        served = bench.served(Cell(rule=rule, book=0, fleet=fleet, pace=Pace(load=1.0)), seed)
        return sorted((one.job.task.task_id, one.job.at_ms, one.job.ev) for one in served)

    assert work(OURS, 0, 0) == work("next-free", 0, 0) == work(OURS, 1, 0) != work(OURS, 0, 1)


def test_one_run_is_the_recording_as_it_stands() -> None:
    """No pieces by lot, and as many tasks as it has calls, up to the limit."""
    made = plan(seeds=1, tasks=10)
    served = Bench(made).served(Cell(rule="next-free", book=0, fleet=0, pace=Pace()), 0)
    calls = made.recording.calls[:10]
    assert sorted(one.job.at_ms for one in served) == [round(1000 * call.at_s) for call in calls]


def test_rows_are_compared_with_the_first_run_by_run() -> None:
    """The first line has no lead over itself; the others' is the mean of the differences."""
    made = plan(seeds=3)
    wanted = cells(made, ["next-free", "highest-ev"], [Pace(load=1.4)])
    with runner(made, 1) as run:
        runs = run(wanted, lambda _: None)
    first, second = rows(made, wanted, runs)
    assert first.less_first["ev_per_h"] == Interval(0, 0, 0)
    leads = [runs[1, seed].stats.ev_per_h - runs[0, seed].stats.ev_per_h for seed in range(3)]
    assert second.less_first["ev_per_h"] == of_few(leads)
    assert (second.rule, second.policy, second.tasks, second.unserved) == ("highest-ev", "", 120, 0)


def test_intervals_of_few_values_are_students() -> None:
    """The tables of the t distribution; of one value there is no interval."""
    for freedom, expected in ((1, 12.7062), (4, 2.7764), (19, 2.0930), (999, 1.9623)):
        assert student_t(freedom) == pytest.approx(expected, abs=1e-4)
    found = of_few([1.0, 2.0, 3.0])
    assert found.value == 2
    assert found.high == pytest.approx(2 + 4.3027 / math.sqrt(3), abs=1e-4)
    assert of_few([7.0]) == Interval(7, 7, 7)


def test_a_size_is_found_by_halving_with_its_interval() -> None:
    """Waits of 100 s by the number of slots, less 10 % in one run and more in the other: 10 s takes 10."""
    asked: list[int] = []

    def slots(count: int) -> list[float]:
        asked.append(count)
        return [90 / count, 100 / count, 110 / count]

    found = size(slots, 10.0, 64)
    # Of three runs half an interval is 4.3 standard errors of a tenth by the root of 3: 24.8 %.
    assert (found.at_least, found.slots, found.surely) == (8, 10, 13)
    assert len(asked) == len(set(asked)) < 20
    assert size(lambda count: [20.0, 20.0 + 0 * count], 10.0, 64).slots is None
    assert size(slots, 10.0, 11).surely is None


def test_the_frontier_has_what_nothing_beats_in_both() -> None:
    """More for more money, and nothing that costs more for less."""
    points = [
        Point(name, Interval(usd, usd, usd), Interval(ev, ev, ev))
        for name, usd, ev in (("dear", 9.0, 5.0), ("cheap", 1.0, 2.0), ("good", 3.0, 6.0), ("poor", 3.0, 4.0))
    ]
    assert [one.name for one in frontier(points)] == ["cheap", "good"]


def test_pictures_are_svg_whatever_the_names_and_numbers() -> None:
    """XML with every name in it once in the legend; no number of waits or money is not drawn."""
    none = Interval(0, 0, 0)
    for values in (none, Interval(1e-9, -1, 1e9)):
        drawn = pareto([Point("<a&b>", values, values)], "a title")
        assert "<a&b>" in [one.text for one in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
        assert "nan" not in drawn
    assert ET.fromstring(waits([Curve("a", (0.0, 5.0, 1e6)), Curve("b", (0.0, 0.0, 0.0))], "t")) is not None


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process."""
    with pytest.raises(SystemExit) as end:
        cli.main(["simulate", *arguments])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


SMALL = ("--trace", "azure_conv", "--tasks", "30", "--seeds", "2", "--processes", "1")


def test_the_command_gives_tables_json_csv_and_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every rule that can be played has a line; LiteLLM's router has no titles to read here, which is said."""
    code, out, _ = run(
        capsys,
        *SMALL,
        "--fleet",
        "opus=1,haiku=2",
        "--json",
        "--csv",
        str(tmp_path / "a.csv"),
        "--pictures",
        str(tmp_path),
    )
    found = json.loads(out)
    assert code == 0
    assert [row["rule"] for row in found["rows"]] == [rule for rule in RULES if rule != "litellm"]
    assert any("no titles" in note for note in found["notes"])
    assert found["rows"][-1]["ev_per_h_bound"]["value"] >= max(
        row["values"]["ev_per_h"]["value"] for row in found["rows"]
    )
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * len(found["rows"])
    for name in ("pareto.svg", "waits.svg"):
        ET.parse(tmp_path / name)
    code, out, _ = run(capsys, *SMALL, "--fleet", "opus=1..2,haiku=2", "--rule", "next-free")
    assert code == 0
    assert "next-free, opus=1,haiku=2" in out
    assert "next-free, opus=2,haiku=2" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--pictures", "{dir}/pareto.png"), "name a directory, in which pareto.svg and waits.svg are drawn"),
        (("--pictures", "{dir}/waits.SVG"), "slotwise draws SVG and no PNG"),
        (("--pictures", "{dir}/a.csv/x"), "cannot be made: Not a directory."),
        (("--csv", "{dir}/none/a.csv"), "cannot be written: No such file or directory."),
    ],
)
def test_what_cannot_be_drawn_or_written_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    """A name of a picture makes no directory of that name."""
    (tmp_path / "a.csv").touch()
    asked = (*SMALL, "--rule", "next-free", "--fleet", "opus=1,haiku=2", *(word.format(dir=tmp_path) for word in words))
    code, _, said = run(capsys, *asked)
    assert code == 2
    assert says in " ".join(said.replace("│", " ").split())
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv"]


def test_how_many_slots_are_enough_is_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    """An answer, its interval and what was assumed; exit code 1 where no count is enough, 2 for a wrong question."""
    asked = ("size", "--model", "opus", "--fleet", "haiku=2", "--rule", "next-free", "--rate", "300", *SMALL)
    code, out, _ = run(capsys, *asked, "--p95-wait", "10m", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["size"]["slots"] >= 1
    tried = {int(count): wait["value"] for count, wait in found["size"]["tried"].items()}
    assert tried[found["size"]["slots"]] <= 600
    assert all(wait > 600 for count, wait in tried.items() if count < found["size"]["slots"])
    assert any("300 tasks/h" in sentence for sentence in found["assumed"])
    code, out, _ = run(capsys, *asked, "--p95-wait", "0.001s", "--most", "1")
    assert code == 1
    assert "No count of opus slots up to 1" in out
    code, _, err = run(capsys, *asked)
    assert code == 2
    assert "one of --p50-wait, --p95-wait and --p99-wait" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--fleet", "hiaku=1"), "no model hiaku"),
        (("--rule", "litellm", "--trace", "azure_code"), "no titles"),
        (("--policy", "shippe"), "shippe"),
        (("--trace", "nothing"), "nothing"),
        (("--load", "0"), "--load"),
    ],
)
def test_what_cannot_be_simulated_is_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    """Exit code 2, and what was wrong."""
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert says in err
