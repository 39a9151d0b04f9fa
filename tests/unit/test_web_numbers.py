"""Every number of a page leads to its rows, and where they can be counted there are as many; every table sorts."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest

from streams.web.pages.tables import Column, Table, sorted_by
from streams.web.pages.templating import linked
from tests.support.filled_web import ADDRESSES, filled
from tests.support.page_numbers import Numbers, page


async def test_every_number_leads_to_its_rows_and_there_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each link is followed once; a count is compared with what its target says, those of decisions in `test_stats`."""
    rig = await filled(monkeypatch)
    followed: dict[str, Numbers] = {}
    found = counted = 0
    for address in ADDRESSES:
        shown = await page(rig, address)
        assert shown.numbers, f"{address} has no number: is it filled?"
        lost = [text for text, to in shown.numbers if to is None]
        assert lost == [], address
        for _, to in shown.numbers:
            if to is not None and not to.startswith("#") and to not in followed:
                followed[to] = await page(rig, to)
        for to, count in sorted(shown.counted):
            target = followed.get(to) or await page(rig, to)
            assert target.matching == count or to.startswith("/ui/decisions?"), (address, to)
        found, counted = found + len(shown.numbers), counted + len(shown.counted)
    assert (found > 150, counted > 25) == (True, True), (found, counted)


async def test_the_counts_of_a_pool_are_those_of_the_filled_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is compared above is not zero with zero."""
    rig = await filled(monkeypatch)
    assert dict((await page(rig, "/")).counted) == {
        "/ui/tasks?pool=main&state=running": 3,
        "/ui/waiting?pool=main": 3,
        "/ui/tasks?pool=main&state=delayed": 1,
        "/ui/fleet?pool=main": 3,
        "/ui/fleet?pool=main&state=free": 0,
    }


async def test_every_table_sorts_by_each_of_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the address of its title, and the other way round when it is followed again; a part of rows by none."""
    rig = await filled(monkeypatch)
    for address in ADDRESSES:
        shown = await page(rig, address)
        assert shown.sorts, address
        for to in shown.sorts:
            if "sort=" in to:
                again = await page(rig, to)
                assert to not in again.sorts, "followed again it is the other way round"
                assert len(again.numbers) == len(shown.numbers)


async def test_a_file_is_sorted_as_the_page_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address says by what; a column that is not there is said."""
    rig = await filled(monkeypatch)

    async def evs(sort: str) -> list[float | None]:
        rows = (await rig.ask("GET", f"/ui/waiting?sort={sort}&format=json")).json["rows"]
        return [row["ev"] for row in rows]

    assert await evs("waiting.ev") == [*sorted(one for one in await evs("") if one is not None), None]
    assert (await evs("-waiting.ev"))[0] == 4.0
    for sort in ("waiting.none", "waiting.frees", "tasks.ev"):
        refused = await rig.ask("GET", f"/ui/waiting?sort={sort}")
        assert (refused.status, f"The table waiting is not sorted by {sort}" in refused.body.decode()) == (422, True)
    assert (await rig.ask("GET", "/ui/fleet?sort=models.none")).status == 422
    assert (await rig.ask("GET", "/ui/decisions?sort=decisions.ev")).status == 422, "that would be those shown only"
    assert (await rig.ask("GET", "/ui/fleet?sort=-models.tier")).body.count(b'aria-sort="descending"') == 1


async def test_the_form_of_each_page_may_be_sent_with_its_empty_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a browser sends it; what is empty is no filter."""
    rig = await filled(monkeypatch)
    sent = 0
    for address in ADDRESSES:
        text = (await rig.ask("GET", address)).body.decode()
        for form in re.findall(r'<form class="filters"[^>]*>.*?</form>', text, re.DOTALL):
            (to,) = re.findall(r'action="([^"]+)"', form)
            fields = dict(re.findall(r'<input name="(\w+)"[^>]*? value="([^"]*)"', form))
            fields |= dict.fromkeys(re.findall(r'<select name="(\w+)"><option value="">', form), "")
            shown = await page(rig, f"{to}?{urlencode(fields)}")
            assert len(shown.numbers) == len((await page(rig, to)).numbers) or "?" in address
            sent += len(fields)
    assert sent > 20


async def test_the_matrix_is_sorted_by_its_models_and_by_the_tasks_of_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the address, on the page and in the file; a model that did none of the layer comes last."""
    rig = await filled(monkeypatch)

    async def models(sort: str) -> list[str]:
        rows = (await rig.ask("GET", f"/ui/routing?sort={sort}&table=grid&format=json")).json["rows"]
        text = (await rig.ask("GET", f"/ui/routing?sort={sort}")).body.decode()
        shown = re.findall(r'<th scope="row"><a [^>]+><code>([^<]+)', text)
        assert shown == [row["model"] for row in rows]
        assert text.count("aria-sort=") == 1
        return shown

    assert await models("grid.model") == ["haiku", "opus"]
    assert await models("-grid.model") == ["opus", "haiku"]
    assert await models("-grid.layer app") == ["haiku", "opus"]
    assert await models("grid.layer (none)") == ["opus", "haiku"]


def test_rows_without_a_value_come_last_and_a_total_stays_at_the_foot() -> None:
    """Whatever the direction; the window is cut after the sort."""
    rows: list[dict[str, int | None]] = [{"n": 2}, {"n": None}, {"n": 3}, {"n": 1}]
    table = Table(name="t", title="T", columns=(Column("n", "n"),), rows=rows, foot=[{"n": 6}], window=(0, 2))
    assert [row["n"] for row in sorted_by(table, "n", descending=True).shown] == [3, 2, 6]
    assert [row["n"] for row in sorted_by(table, "n", descending=False).rows] == [1, 2, 3, None]
    names = Table(name="t", title="T", columns=(Column("n", "n"),), rows=[{"n": "b"}, {"n": "A"}])
    assert [row["n"] for row in sorted_by(names, "n", descending=False).rows] == ["A", "b"]


@pytest.mark.parametrize(
    ("window", "want"),
    [(None, (None, None)), ((0, 2), (None, 2)), ((1, 2), (0, 3)), ((2, 2), (0, None)), ((9, 2), (7, None))],
)
def test_a_table_says_where_the_pages_around_it_begin(window: tuple[int, int] | None, want: tuple[int, int]) -> None:
    """None before the first row, and none behind the last."""
    rows = [{"n": number} for number in range(4)]
    table = Table(name="t", title="T", columns=(Column("n", "n"),), rows=rows, window=window)
    assert (table.before, table.following) == want


@pytest.mark.parametrize(
    ("says", "want"),
    [
        ("41 tasks running, 1,204 waiting.",
         '<a class="n" href="/r">41 tasks running</a>, <a class="n" href="/w">1,204 waiting</a>.'),
        ("1 of 3 slots running <b>", '<a class="n" href="/r">1 of 3 slots running</a> &lt;b&gt;'),
        ("for 3 min 20 s, overrunning", "for 3 min 20 s, overrunning"),
        ("\u202e2 waiting", '\\u202e<a class="n" href="/w">2 waiting</a>'),
    ],
)  # fmt: skip
def test_the_counts_of_a_sentence_are_links(says: str, want: str) -> None:
    """By their last word; the rest is escaped text."""
    assert linked(says, {"running": "/r", "waiting": "/w"}) == want
