"""How records flow, as numbers and as a picture."""

from __future__ import annotations

import pytest

from streams.views.flow import behind, flow, moves, stands
from streams.views.lag import Look, ReaderLag, report
from streams.views.parts import Parts
from streams.web.pages.charts import Arrow, Station, picture
from tests.support.lags import look, reading
from tests.support.web_rig import WebRig

BEHIND = look(reading(80, 120, unread_s=10), at_s=14.0)
#: Ten records a second come, and so many are read.
CATCHES_UP = look(reading(20, 80, unread_s=5), at_s=10.0)
STANDS_STILL = look(reading(80, 80, unread_s=5), at_s=10.0)


def one(now: Look, before: Look | None = None) -> ReaderLag:
    """The only reader of a report."""
    (found,) = report(now, before).readers
    return found


async def test_the_flow_counts_by_partition_and_says_what_is_behind() -> None:
    """A partition without a worker is said, and what is not known too."""
    rig = WebRig(tokens=False)
    await rig.ask("POST", "/slots", {"slot_id": "s-1", "pool": "main", "model": "haiku"})
    await rig.ask("POST", "/tasks", {"task_id": "t-1", "pool": "main"})
    known = dict(rig.following.partitions)
    pulse = rig.following.pulse.view(known[0].router.now_ms)
    found = flow(known, pulse, parts=None, lag=report(BEHIND))
    (part,) = found.partitions
    assert (part.steps, part.tasks, part.slots, part.served) == (2, 1, 1, None)
    assert "The sink reading decision.audit is furthest behind: 40 records, the oldest 90.0 s old." in found.says
    none = flow(known, pulse, parts=Parts(workers=()), lag=None)
    assert none.says.endswith("No worker runs: nothing is decided. How far its readers are is not known now.")


def test_an_arrow_says_how_fast_records_are_read_and_how_many_are_not() -> None:
    """Both rates where they differ; the later of seconds behind and age."""
    found = one(BEHIND, CATCHES_UP)
    assert (moves(found), behind(found)) == ("15.0 of 10.0/s", "40 behind, 1 min")
    assert (moves(one(BEHIND)), behind(one(look(reading(8, 8))))) == ("", "0 behind")
    steady = one(look(reading(119, 120, unread_s=60), at_s=14.0), look(reading(79, 80, unread_s=60), at_s=10.0))
    assert moves(steady) == "10.0/s"


@pytest.mark.parametrize(
    ("now", "before", "want"),
    [
        (look(reading(8, 8)), None, "has read all"),
        (look(reading(7, 8, unread_s=99)), None, "keeps up"),
        (BEHIND, CATCHES_UP, "all read in 8.0 s"),
        (BEHIND, STANDS_STILL, "does not catch up"),
        (BEHIND, None, "is behind"),
    ],
)
def test_a_reader_keeps_up_or_says_when_it_has_read_all(now: Look, before: Look | None, want: str) -> None:
    """By its rates, and without them only that it is behind."""
    assert stands(one(now, before)) == want


async def test_the_page_has_the_lag_of_each_reader_and_of_its_partitions() -> None:
    """The arrow of a reader leads to its partitions, and a number of one partition to all readers of that."""
    rig = WebRig(tokens=False)
    text = (await rig.ask("GET", "/ui/flow")).body.decode()
    assert "50 behind, 1 min" in text
    assert "all read in 10 s" in text
    assert 'href="/ui/flow?group=slotwise-sink-postgres&amp;topic=decision.audit"' in text
    assert "Partition by partition" not in text
    path = "/ui/flow?group=slotwise-sink-postgres&topic=decision.audit"
    rows = (await rig.ask("GET", f"{path}&table=positions&format=json")).json["rows"]
    assert [(row["reader"], row["partition"], row["position"], row["end"], row["records"]) for row in rows] == [
        ("sink", 0, 70, 120, 50)
    ]
    assert "Partition by partition" in (await rig.ask("GET", path)).body.decode()
    rows = (await rig.ask("GET", "/ui/flow?partition=0&table=positions&format=json")).json["rows"]
    assert [row["reader"] for row in rows] == ["worker", "worker", "worker", "publisher", "tables", "sink"]
    for query in (
        "partition=1&table=partitions",
        "partition=1&table=positions",
        "group=slotwise&topic=none&table=positions",
    ):
        assert (await rig.ask("GET", f"/ui/flow?{query}&format=json")).json["rows"] == []


async def test_a_state_that_is_not_known_has_no_lag() -> None:
    """The workers' positions are those of the state; what was known before is not shown as new."""
    rig = WebRig(tokens=False)
    rig.following.trouble = "The journal is away."
    text = (await rig.ask("GET", "/ui/flow")).body.decode()
    assert "How far its readers are is not known now." in text
    assert "slotwise lag" in text


def test_a_picture_escapes_what_is_written_on_it() -> None:
    """Boxes and arrows, with only text in them; a line that leads somewhere is a link."""
    drawn = picture(
        [Station("<a>", "x", 0, 0), Station("b", "y", 1, 0, "", "/y")], [Arrow("<a>", "b", "1/s", "2 behind", "/z")],
        label="l",
    )  # fmt: skip
    assert "&lt;a&gt;" in drawn
    assert drawn.count("<rect") == 2
    assert drawn.count('class="arrow"') == 1
    assert drawn.count("<a href") == 2
    assert '<a href="/z"><text' in drawn
