"""The page of a shadow: changed choices first, both sides beside each other, the same as files."""

from __future__ import annotations

import csv
import io

import pytest
from msgspec.structs import replace

from streams.shadow.report import ShadowReport, ShadowView
from streams.web.pages import what_if
from tests.support.shadow_rows import ONE, RUN
from tests.support.web_rig import WebRig


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Give a database with one shadow; and what the page asks of it: the run's name and kind."""
    found: list[tuple[str, str | None]] = []

    def report_of(_dsn: object, run: ShadowView, *, kind: str | None, **_: object) -> ShadowReport:
        found.append((run.name, kind))
        return ShadowReport(run=RUN, differences=(ONE,), more=3)

    monkeypatch.setattr(what_if, "shadows", lambda *_, **__: (RUN,))
    monkeypatch.setattr(what_if, "report_of", report_of)
    return found


async def test_the_page_says_it_in_one_line_and_shows_both_sides(asked: list[tuple[str, str | None]]) -> None:
    """Choices, sentences and money; what was sent is text."""
    reply = await WebRig(tokens=False).ask("GET", "/ui/what-if")
    text = reply.body.decode()
    assert reply.status == 200
    assert f"<h1>{RUN.says}</h1>" in text
    assert text.index("other model") < text.index("Money, waits and tiers")
    for expected in ("haiku (haiku-1)", "opus (opus-1)", "Its EV is above P70.", "3 more", "&lt;i&gt;cheap&lt;/i&gt;"):
        assert expected in text
    assert "<i>cheap</i>" not in text
    assert asked == [("p70", None)]


async def test_a_shadow_with_slots_of_its_own_says_that_its_differences_are_consequences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the slots, in the sentence and in the list; the other sentence is of shadows on the live slots."""
    more = replace(RUN, fleet={"opus": 3, "haiku": 6})
    monkeypatch.setattr(what_if, "shadows", lambda *_, **__: (more,))
    monkeypatch.setattr(what_if, "report_of", lambda *_, **__: ShadowReport(run=more, differences=(ONE,), more=0))
    text = (await WebRig(tokens=False).ask("GET", "/ui/what-if")).body.decode()
    assert "It has slots of its own, <code>opus=3,haiku=6</code>" in text
    assert "in a world that was not" in text
    assert "real moves are taken as given" not in text
    assert text.count("opus=3,haiku=6") == 2


async def test_tables_are_files_and_kinds_a_filter(asked: list[tuple[str, str | None]]) -> None:
    """With the rules of both sides, and the step."""
    rig = WebRig(tokens=False)
    reply = await rig.ask("GET", "/ui/what-if?name=p70&kind=other_model&table=differences&format=csv")
    (row,) = csv.DictReader(io.StringIO(reply.body.decode()))
    assert (row["kind"], row["live_rule"], row["shadow_rule"], row["more_usd"], row["seq"]) == (
        *("other model", "cheapest_capable", "lifted", "0.125", "3"),
    )
    sides = (await rig.ask("GET", "/ui/what-if?table=sides&format=json")).json["rows"]
    assert [(one["side"], one["routed"], one["tier_3"]) for one in sides] == [("live", 8, 2), ("shadow", 7, 4)]
    assert asked[0] == ("p70", "other_model")
    assert (await rig.ask("GET", "/ui/what-if?kind=none-such")).status == 422


async def test_a_name_that_is_not_there_and_no_shadow_at_all_are_said(
    asked: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With those that are there, or the command that begins one."""
    rig = WebRig(tokens=False)
    assert "No shadow is called nope." in (await rig.ask("GET", "/ui/what-if?name=nope")).body.decode()
    monkeypatch.setattr(what_if, "shadows", lambda *_, **__: ())
    assert "slotwise shadow start --policy" in (await rig.ask("GET", "/ui/what-if")).body.decode()
    assert asked == []
