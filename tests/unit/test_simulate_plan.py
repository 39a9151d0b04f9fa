"""What people name becomes work and fleets: words for fleets, files of arrivals, the journal of one's own fleet."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from schemas.steps import encode_step
from streams.errors import SlotwiseError
from streams.operate.moments import MomentError, seconds
from streams.operate.plan import PlanError, books, cells, listed, paces, recording_of, rules_of
from streams.replay.recorded_files import RecordingError
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.simulate.experiment import Pace, Plan
from streams.simulate.fleet_words import FleetWordsError, fleets, words
from streams.simulate.journal_work import JournalWorkError, journal_work
from streams.simulate.trace_file import BUNDLED, SAMPLE, TraceFileError, bundled, from_file
from streams.simulate.trace_file import TIERS as CLASSES
from tests.support.builders import freed, rulebook, slot, task
from tests.support.recorded import Recorded
from tests.support.router_rig import RouterRig
from tests.unit.test_recordings import POOLS, export, history

BOOK = rulebook(attempts={"back_off_s": 0.0})


def test_a_line_of_counts_is_a_fleet_for_each() -> None:
    """The last model counts up first; a count of none leaves the model out."""
    assert fleets("opus=2,haiku=6") == [{"opus": 2, "haiku": 6}]
    assert fleets("opus=0..1,haiku=2..3") == [
        {"haiku": 2},
        {"haiku": 3},
        {"opus": 1, "haiku": 2},
        {"opus": 1, "haiku": 3},
    ]
    assert fleets(words({"opus": 2, "haiku": 6})) == [{"opus": 2, "haiku": 6}]


@pytest.mark.parametrize(
    "text", ["", "opus", "opus=", "opus=x", "opus=-1", "opus=3..1", "opus=9999", "opus=0", "a=1,a=2", "a=1..90,b=1..90"]
)
def test_what_is_no_fleet_is_refused_with_a_way_to_write_one(text: str) -> None:
    """A sentence each."""
    with pytest.raises(FleetWordsError, match=r"\.$"):
        fleets(text)


def test_a_file_has_counts_or_the_slots_of_a_dispatcher(tmp_path: Path) -> None:
    """Both say how many of each model."""
    file = tmp_path / "fleet.toml"
    for text in (
        "[slots]\nopus = 2\nhaiku = 1\n",
        '[[slot]]\nmodel="opus"\n[[slot]]\nmodel="haiku"\n[[slot]]\nmodel="opus"',
    ):
        file.write_text(text)
        assert fleets(str(file)) == [{"opus": 2, "haiku": 1}]
    for text in ("[slots]\nopus = true\n", "[slots]\nopus = 0\n", "x = 1\n", "[[slot]]\nid = 1\n", "="):
        file.write_text(text)
        with pytest.raises(FleetWordsError):
            fleets(str(file))


def test_every_bundled_recording_gives_runs() -> None:
    """By its name, with so many calls as asked for, the same for a seed; the sample brings titles."""
    for name in (SAMPLE, *BUNDLED):
        found = bundled(name)
        calls = found.run(1, 80)
        assert len(calls) == 80
        assert calls == bundled(name).run(1, 80) != found.run(2, 80)
        assert [call.at_s for call in calls] == sorted(call.at_s for call in calls)
        assert found.has_texts == (name == SAMPLE)
        assert len(found.as_recorded(7)) == 7


def test_a_file_of_requests_is_read_plain_and_packed(tmp_path: Path) -> None:
    """Times count from the first call, whichever comes first in the file; a tier may be named."""
    text = "arrival_s,input_tokens,output_tokens,tier\n9,30,3,\n5,10,1,2\n"
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.csv", "a.csv.gz"):
        found = from_file(tmp_path / name)
        assert [(call.at_s, call.input_tokens, call.output_tokens, call.tier) for call in found.calls] == [
            (0, 10, 1, 2),
            (4, 30, 3, None),
        ]
        assert found.task_s == 60


def test_a_file_of_demand_and_one_of_an_agents_calls_are_known_by_their_columns(tmp_path: Path) -> None:
    """Lengths of demand are drawn; pauses of one user are cut and shared by many."""
    file = tmp_path / "a.csv"
    file.write_text("model_class,window_start_s,requests_per_s\nm-small,0,3\nother,0,9\nm-large,0,1\n")
    assert [(one.tier, one.requests_per_s) for one in from_file(file).windows] == [(1, 3), (3, 1)]
    assert set(CLASSES.values()) == {1, 2, 3}
    file.write_text("t_done,prompt_tokens,completion_tokens\n100,1,1\n107,1,1\n9999,1,1\n")
    assert [call.at_s for call in from_file(file).calls] == pytest.approx([0, 0.1, 0.1 + 60 / 70])


@pytest.mark.parametrize(
    "text",
    [
        *("", "a,b\n1,2\n", "arrival_s,input_tokens,output_tokens\n", "arrival_s,input_tokens,output_tokens\n1,1,1\n"),
        *(
            "arrival_s,input_tokens,output_tokens\n0,1,1\nx,1,1\n",
            "arrival_s,input_tokens,output_tokens\n0,1,1\n1,-1,1\n",
        ),
        *(
            "arrival_s,input_tokens,output_tokens\n0,1,1\n1e400,1,1\n",
            "model_class,window_start_s,requests_per_s\nx,0,1\n",
        ),
        "arrival_s,input_tokens,output_tokens,tier\n0,1,1,1\n1,1,1,4\n",
    ],
)
def test_a_file_that_is_no_recording_says_why(tmp_path: Path, text: str) -> None:
    """What it lacks, in a sentence."""
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(TraceFileError, match=r"\.$"):
        from_file(file)


def test_what_is_no_gzip_says_so(tmp_path: Path) -> None:
    """It begins like one, and ends early."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"arrival_s")[:12])
    with pytest.raises(TraceFileError, match="damaged"):
        from_file(tmp_path / "a.gz")


def exported(rig: RouterRig) -> list[bytes]:
    """Give the lines that a sink writes of a rig's steps."""
    lines = []
    for offset, step in enumerate(rig.steps):
        raw = encode_step(step)
        digest = hashlib.sha256(raw).hexdigest()
        lines.append(b'{"offset":%d,"sha256":"%s","chain":"%s","step":%s}\n' % (offset, digest.encode(), b"00", raw))
    return lines


def worked() -> RouterRig:
    """A slot of haiku (95 tokens a second) that did two tasks, the first one at the second try, and a third waits."""
    rig = RouterRig("haiku-1", book=BOOK)
    rig.hand_in(task("t-1", ev=4.0, deadline_ms=rig.now_ms + 9_000_000, priority=70))
    rig.hand_in(freed("haiku-1", 1, "t-1", "failure", outcome={"latency_s": 3.0, "output_tokens": 95}), after_s=5)
    rig.hand_in(freed("haiku-1", 2, "t-1", outcome={"latency_s": 12.0, "output_tokens": 950}), after_s=20)
    rig.hand_in(task("t-2", title="Second"), after_s=5)
    rig.hand_in(freed("haiku-1", 3, "t-2"), after_s=10)
    rig.hand_in(task("t-3"), task("t-4"), after_s=30)
    return rig


def test_a_journal_gives_arrivals_and_lengths_of_all_attempts() -> None:
    """Times are the router's; what a slot took beyond writing is the same on all models; the rest are as the median."""
    steps = [encode_step(step) for step in worked().steps]
    found = journal_work([*steps, steps[0]], BOOK.models, name="a.jsonl")
    first, second, third, _ = found.calls
    assert (first.at_s, first.output_tokens) == (0, 1045)
    assert first.overhead_s == pytest.approx((3 - 1) + (12 - 10))
    assert (second.at_s, second.output_tokens, second.overhead_s) == (30, 0, 10)
    assert (third.at_s, third.output_tokens, third.overhead_s) == (70, round((1045 + 0) / 2), 7)
    assert first.task is not None
    assert (first.task.ev, first.task.priority, first.task.deadline) == (4.0, 70, None)
    assert found.task_s is None
    assert "2 of its 4 tasks have no outcome" in " ".join(found.notes)


def test_a_journal_without_finished_work_is_refused() -> None:
    """Nothing says how long its tasks take; nor is what is no journal read."""
    with pytest.raises(JournalWorkError, match="0 finished tasks"):
        journal_work(map(encode_step, worked().steps[:2]), BOOK.models, name="a.jsonl")
    with pytest.raises(JournalWorkError, match=r"a\.jsonl has in its place 1"):
        journal_work([b'{"offset":1}'], BOOK.models, name="a.jsonl")


def test_pools_are_simulated_one_at_a_time() -> None:
    """With two in the file one must be named."""
    rig = worked()
    rig.hand_in(slot("haiku-2", pool="other"), task("t-9", pool="other"))
    with pytest.raises(JournalWorkError, match="main, other"):
        journal_work(map(encode_step, rig.steps), BOOK.models, name="a")
    assert len(journal_work(map(encode_step, rig.steps), BOOK.models, name="a", pool="main").calls) == 4


def test_a_recording_is_found_by_name_or_file(tmp_path: Path) -> None:
    """A journal is known by its first line; a name that is none says what there is."""
    file = tmp_path / "journal.jsonl"
    file.write_bytes(b"".join(exported(worked())))
    assert len(recording_of(str(file), BOOK.models, None).calls) == 4
    assert recording_of("azure_code", BOOK.models, None).name == "azure_code"
    with pytest.raises(PlanError, match="Did you mean azure_code"):
        recording_of("azure_cod", BOOK.models, None)


def test_a_sink_at_work_may_have_left_half_a_line_and_a_file_may_be_packed(tmp_path: Path) -> None:
    """The steps before it are those of the file; half a line before others is damage."""
    lines = exported(worked())
    file = tmp_path / "mine.jsonl"
    whole = recording_of(str(_written(file, b"".join(lines))), BOOK.models, None)
    for half in (lines[1][:4], lines[1][:-1]):
        assert recording_of(str(_written(file, b"".join(lines) + half)), BOOK.models, None) == whole
    packed = recording_of(str(_written(tmp_path / "mine.gz", gzip.compress(b"".join(lines)))), BOOK.models, None)
    assert packed.calls == whole.calls
    with pytest.raises(RecordingError, match=rf"Line 2 of {file}"):
        recording_of(str(_written(file, b"".join([lines[0], lines[1][:40], b"\n", *lines[2:]]))), BOOK.models, None)
    with pytest.raises(RecordingError, match="cut off or damaged"):
        recording_of(str(_written(file, gzip.compress(b"".join(lines))[:-9])), BOOK.models, None)


def test_an_export_is_the_work_of_all_its_partitions(tmp_path: Path) -> None:
    """As a file of the sink is; a directory that is none says so."""
    directory = export([Recorded(history(pool), number) for number, pool in enumerate(POOLS)], tmp_path / "r")
    models = file_rulebook(Settings()).models
    with pytest.raises(JournalWorkError, match=f"{POOLS[0]}, {POOLS[1]}|{POOLS[1]}, {POOLS[0]}"):
        recording_of(str(directory), models, None)
    with pytest.raises(JournalWorkError, match="1 finished tasks"):
        recording_of(str(directory), models, POOLS[1])
    (tmp_path / "none").mkdir()
    with pytest.raises(RecordingError, match=r"has no recording\.json"):
        recording_of(str(tmp_path / "none"), models, None)


def _written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def test_cells_are_one_a_rule_fleet_and_pace_and_ours_by_each_policy() -> None:
    """Baselines read no policy, so they come once."""
    found = books(Settings(), ["shipped", "subscriptions"], [])
    plan = Plan(
        recording=bundled("azure_code"),
        books=tuple(book for book, _ in found.values()),
        fleets=({"opus": 1}, {"opus": 2}),
        seeds=2,
        tasks=10,
    )
    made = cells(plan, rules_of(["slotwise", "next-free"]), paces(["0.9", "1.3"], [], default_load=None))
    assert [(one.rule, one.book) for one in made[:3]] == [("slotwise", 0), ("slotwise", 1), ("next-free", 0)]
    assert len(made) == 3 * 2 * 2
    with pytest.raises(PlanError, match="too many"):
        cells(plan, ["slotwise"] * 30_000, [Pace()])


def test_words_that_mean_nothing_are_refused() -> None:
    """Rules, paces and spans."""
    assert listed(["a,b", "b,c", " "]) == ["a", "b", "c"]
    assert [one.name for one in paces([], ["120"], default_load=None)] == ["120 tasks/h"]
    assert [one.name for one in paces([], [], default_load=0.9)] == ["load 0.9"]
    for wrong in (["0"], ["x"], ["inf"], ["-1"]):
        with pytest.raises(SlotwiseError):
            paces(wrong, [], default_load=None)
    with pytest.raises(PlanError, match="not with both"):
        paces(["1"], ["1"], default_load=None)
    with pytest.raises(PlanError, match="Did you mean oracle"):
        rules_of(["oracl"])
    assert [seconds(text) for text in ("5m", "90s", "1h30m", "0.5s")] == [300, 90, 5400, 0.5]
    for text in ("", "5", "m", "0s", "1d", "5m5m"):
        with pytest.raises(MomentError):
            seconds(text)
