"""The web pages in memory: what they say, who sees them, and that no text of a producer acts on them."""

from __future__ import annotations

import csv
import html
import io
import re
from typing import Any

import msgspec
import pytest

from streams.views.stats import USE, Analytics
from streams.web.pages.templating import cut, environment
from streams.web.pages.waiting import ORDERS
from streams.web.sessions import COOKIE, LIFE_S, Sessions
from tests.support.filled_web import LANE, analytics, filled, line, sums
from tests.support.web_rig import Reply, WebRig

PAGES = ("/", "/ui/fleet", "/ui/waiting")
#: What a page must not do with any text: run it, end an attribute or a line, turn the reading direction.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "{{ 7*7 }}",
    "{% raw %}",
    "javascript:alert(1)",
    "</title><svg onload=alert(1)>",
    "safe\u202egnp.exe",
    "a\u2066b",
    "line\r\nSet-Cookie: a=b",
    "\x1b[31mred",
    "<!--",
    "]]>",
    "&lt;b&gt;",
)


async def fleet(rig: WebRig, *slots: str, pool: str = "main") -> None:
    """Announce slots, `haiku-1` for one that runs haiku."""
    for slot in slots:
        fields = {"slot_id": slot, "pool": pool, "model": slot.rpartition("-")[0]}
        assert (await rig.ask("POST", "/slots", fields, role="dispatcher" if rig.tokens else None)).status == 202


async def pend(rig: WebRig, task_id: str, **fields: Any) -> None:
    """Submit a task."""
    body = {"task_id": task_id, "pool": "main", **fields}
    reply = await rig.ask("POST", "/tasks", body, role="producer" if rig.tokens else None)
    assert reply.status == 202, reply.body


async def see(rig: WebRig, path: str) -> str:
    """Return the text of a page of an installation without tokens."""
    reply = await rig.ask("GET", path)
    assert reply.status == 200, reply.body
    return reply.body.decode()


def words(text: str) -> str:
    """Return the text of a page without its markup."""
    return re.sub(r"<[^>]+>", "", text)


async def login(rig: WebRig, token: str, to: str = "/") -> Reply:
    """Send the form with a token."""
    body = f"token={token}&to={to}".encode()
    return await rig.ask("POST", "/ui/login", body, content_type="application/x-www-form-urlencoded")


def cookie_of(reply: Reply) -> str:
    """Return the session that an answer sets."""
    return reply.headers["set-cookie"].partition(";")[0]


@pytest.mark.parametrize("path", PAGES)
async def test_an_installation_without_anything_says_what_to_do_next(path: str) -> None:
    """An empty page has a sentence and a command to copy."""
    text = await see(WebRig(tokens=False), path)
    assert "slotwise send" in text
    assert "<h1>" in text


async def test_the_first_page_says_in_its_first_line_how_it_is() -> None:
    """Running and waiting tasks are counted, and what is stuck is said first."""
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1")
    await pend(rig, "t-1")
    await pend(rig, "t-2")
    text = await see(rig, "/")
    assert "Routing normally: 1 task running, 1 waiting, the oldest for " in words(text)
    assert "1 of 1 slot busy, 0 free." in words(text)
    await pend(rig, "t-3", requires={"coding": 10, "safety": 10})
    text = await see(rig, "/")
    assert "<h1>Routing, and some work is stuck" in text
    assert "needs a person" in text


async def test_a_state_that_is_not_known_now_is_shown_with_a_warning() -> None:
    """The last known values stay, under a line that says so."""
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1")
    rig.following.trouble = "The journal is away."
    text = await see(rig, "/ui/fleet")
    assert "Not up to date." in text
    assert "The journal is away." in text
    assert "haiku-1" in text


async def test_the_fleet_shows_each_slot_with_its_task_and_marks() -> None:
    """A busy slot names its task and has the bar of its lease; a drained model says so."""
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1", "haiku-2", "opus-1")
    await pend(rig, "t-1", title="Fix typo in README")
    text = await see(rig, "/ui/fleet")
    assert "3 slots: 1 busy, 2 free." in words(text)
    assert "Fix typo in README" in text
    assert "lease: 0 % is over" in text
    drained = {"kind": "model.drained", "control_id": "c-1", "by": "ops", "model": "opus"}
    await rig.web.send("fleet.control", {"at": "2026-11-21T10:00:00.000Z", **drained})
    assert "opus is drained" in await see(rig, "/ui/fleet?model=opus")


async def test_thousands_of_slots_are_dots_and_the_page_stays_small() -> None:
    """Under 100 KB, with a way to the slots of one model."""
    rig = WebRig(tokens=False)
    await fleet(rig, *(f"haiku-{number}" for number in range(1500)))
    reply = await rig.ask("GET", "/ui/fleet")
    assert len(reply.body) < 100_000
    assert b'class="box ' not in reply.body
    assert "1,500 slots: 1,500 free." in words(reply.body.decode())
    one = await rig.ask("GET", "/ui/fleet?pool=main&model=haiku")
    assert one.body.count(b'class="box ') == 120
    assert len(one.body) < 100_000
    slots = await rig.ask("GET", "/ui/fleet?table=slots&format=csv")
    assert len(list(csv.reader(io.StringIO(slots.body.decode())))) == 1501


async def test_a_waiting_task_says_for_what_it_waits_and_what_would_free_it() -> None:
    """A busy fleet, and a bar that no model reaches."""
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1")
    await pend(rig, "running")
    await pend(rig, "behind", title="Second")
    await pend(rig, "too-hard", requires={"coding": 10, "safety": 10})
    text = await see(rig, "/ui/waiting")
    assert "<h1>2 tasks wait, the oldest for " in text
    assert re.search(r"A slot of haiku: 1 busy, the first lease ends in [\d\w ]+ at the latest\.", text)
    assert "No model of the fleet is good enough for coding&gt;=10, safety&gt;=10" in text
    assert "Lower requires.coding to " in text
    assert text.index("no_capable_model") < text.index("capable_busy"), "what no slot will free comes first"
    only = await see(rig, "/ui/waiting?reason=capable_busy")
    assert "Second" in only
    assert "too-hard" not in only
    assert "too-hard" in await see(rig, "/ui/waiting?q=HARD")


async def test_waiting_tasks_come_in_pages_in_the_order_that_was_asked_for() -> None:
    """Sixty a page, the longest wait first; by value where that is asked for."""
    rig = WebRig(tokens=False)
    for number in range(70):
        await pend(rig, f"t-{number:02}", ev=float(number))
    first = await see(rig, "/ui/waiting")
    (more,) = re.findall(r'<a href="([^"]+)">more</a>', first)
    second = await see(rig, html.unescape(more))
    assert first.count("<tr>") == 61
    assert second.count("<tr>") == 11
    assert '<a href="/ui/waiting">the first</a>' in second
    assert ">more</a>" not in second
    assert (await rig.ask("GET", "/ui/waiting?after=1~main")).status == 422
    rows = (await rig.ask("GET", "/ui/waiting?sort=-waiting.ev&format=json")).json["rows"]
    assert [row["ev"] for row in rows][:2] == [69.0, 68.0]
    assert rows[0]["place"] == 1


@pytest.mark.parametrize("sort", [f"{sign}waiting.{name}" for name in ORDERS for sign in ("", "-")])
async def test_the_pages_of_waiting_tasks_are_in_one_order_from_the_first_to_the_last(sort: str) -> None:
    """By each column that leads to a sort, either way; titles may be anything."""
    rig = WebRig(tokens=False)
    for number in range(130):
        title = ("Same", "~", "%7E", "Ö" * 100, f"T {number}", "a\nb")[number % 6]
        named = {} if number % 4 else {"lane": f"l-{number % 8}", "tenant_id": "acme", "ev": number / 7}
        await pend(rig, f"t-{number:03}", title=title, priority=40 + number % 3, **named)
    whole = (await rig.ask("GET", f"/ui/waiting?sort={sort}&format=json")).json["rows"]
    address: str | None = f"/ui/waiting?sort={sort}"
    ids: list[str] = []
    text = ""
    while address is not None:
        text = await see(rig, address)
        ids += re.findall(r'<code class="under">([^<]+)</code>', text)
        address = next((html.unescape(one) for one in re.findall(r'<a href="([^"]+)">more</a>', text)), None)
    assert ids == [row["task_id"] for row in whole]
    assert len(set(ids)) == 130
    column = sort.rpartition(".")[2]
    if column in {"ev", "lane", "tenant_id"}:
        values = [row[column] for row in whole if row[column] is not None]
        assert values == sorted(values, reverse=sort.startswith("-"))
        assert all(row[column] is None for row in whole[len(values) :])
    if column not in {"attempt", "task_id"}:  # these are in the files, and not on the page
        assert f"{'des' if sort.startswith('-') else 'as'}cending" in re.findall(r'aria-sort="(\w+)"', text)


async def test_a_page_of_waiting_tasks_begins_behind_a_value_of_its_order() -> None:
    """One that is no number where the order is of numbers is refused."""
    rig = WebRig(tokens=False)
    await pend(rig, "t-1", title="Zebra")
    assert (await rig.ask("GET", "/ui/waiting?after=x~main~t")).status == 422
    assert "t-1" in await see(rig, "/ui/waiting?sort=waiting.title&after=a~main~t")


@pytest.mark.parametrize("title", HOSTILE)
async def test_a_title_of_a_producer_is_only_text(title: str) -> None:
    """On every page it is escaped, and characters that act are shown as escapes."""
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1")
    await pend(rig, "t-1", title=title, lane=title[:60] or "x", tenant_id="acme")
    await pend(rig, "t-2", title=title, lane=title[:60] or "x", tenant_id="acme")
    for path in PAGES:
        text = await see(rig, path)
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "<svg onload" not in text
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)
        assert "49" not in re.findall(r"<td class=\"title\"[^>]*>(.*?)</td>", text)


async def test_a_file_of_a_table_has_its_rows_and_no_formula() -> None:
    """CSV and JSON; a title that a spreadsheet would calculate begins with an apostrophe."""
    rig = WebRig(tokens=False)
    for number, title in enumerate(("=1+1", "@SUM(A1)", "-2", " +3", "plain", "\ud800half")):
        row = {"task_id": f"t-{number}", "pool": "main", "title": title}
        await rig.ask("POST", "/tasks", row)
    reply = await rig.ask("GET", "/ui/waiting?format=csv")
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(reply.body.decode())))
    assert {row["title"] for row in rows} >= {"'=1+1", "'@SUM(A1)", "'-2", "' +3", "plain"}
    found = (await rig.ask("GET", "/ui/waiting?format=json")).json["rows"]
    assert {row["title"] for row in found} >= {"=1+1", "plain"}
    assert (await rig.ask("GET", "/ui/waiting?format=csv&table=none")).status == 404


async def test_an_error_is_a_page_with_its_id() -> None:
    """Of an address that is not there, of a parameter out of range, and of a mistake of ours."""
    rig = WebRig(tokens=False)
    for path, status in (("/ui/nothing", 404), ("/ui/waiting?sort=waiting.frees", 422), ("/ui/fleet?pool=a%20b", 422)):
        reply = await rig.ask("GET", path, x_correlation_id="c-7")
        assert reply.status == status
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert b"<code>c-7</code>" in reply.body


async def test_a_mistake_of_ours_shows_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has an id, the log the rest."""

    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("streams.web.pages.fleet.overview", fails)
    reply = await WebRig(tokens=False).ask("GET", "/ui/fleet")
    assert (reply.status, b"secret" in reply.body, b"Correlation id" in reply.body) == (500, False, True)


async def test_no_page_has_a_script_or_style_of_its_own() -> None:
    """The policy of contents forbids them, so a page that had one would not work."""
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1")
    for path in PAGES:
        reply = await rig.ask("GET", path)
        text = reply.body.decode()
        assert not re.search(r"<style|\sstyle=|\son\w+=", text)
        assert re.findall(r"<script[^>]*>", text) == re.findall(r'<script src="/ui/static/slotwise.js[^>]*defer>', text)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


async def test_every_page_is_small_and_nothing_but_its_style_holds_up_the_first_paint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under 100 KB with long texts and many slots; one style sheet, which a browser keeps; no font, import or image."""
    monkeypatch.setattr("streams.web.pages.decisions.decisions_by_time", lambda *_, **__: [])
    rig = WebRig()
    await fleet(rig, *(f"haiku-{number}" for number in range(120)), *(f"opus-{number}" for number in range(200)))
    for number in range(400):
        title = f"{number} " + "A long title with <b> & more " * 8
        await pend(rig, f"t-{number}", title=title[:200], lane="lane " * 20, tenant_id="tenant " * 12, ev=number / 7)
    paths = (
        *("/", "/ui/fleet", "/ui/fleet?pool=main&model=opus", "/ui/waiting", "/ui/tasks", "/ui/decisions"),
        *("/ui/flow", "/ui/dead-letters", "/ui/controls", "/ui/login"),
    )
    for path in paths:
        reply = await rig.ask("GET", path, role="operator")
        assert reply.status == 200, path
        text = reply.body.decode()
        assert len(reply.body) < 100_000, path
        assert re.findall("<link rel=[^>]+>", text) == re.findall(
            r'<link rel="stylesheet" href="/ui/static/slotwise.css[^>]+>|<link rel="icon"[^>]+>', text
        )
        assert all(" defer" in script for script in re.findall("<script[^>]*>", text))
        assert not re.search("<img|<iframe|<video|<object", text)
    style = await rig.ask("GET", "/ui/static/slotwise.css")
    assert not re.search(rb"@import|@font-face|url\(", style.body)
    assert len(style.body) < 20_000
    assert "max-age" in style.headers["cache-control"]


async def test_the_page_of_numbers_is_small_with_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables show some rows, one of them page by page; the files have all."""
    rig = await filled(monkeypatch)
    tenants = tuple(line(f"tenant-{number:03} of a long name") for number in range(200))
    use = tuple(line(f"role-{number}", "standard", "some-model") for number in range(200))
    many = msgspec.structs.replace(sums(("tenant",)), by={"tenant": tenants, USE: use})
    quality = analytics(("tenant",)).quality * 45
    monkeypatch.setattr(
        "streams.web.pages.routing.view.analytics", lambda *_, **__: Analytics(stats=many, quality=quality)
    )
    monkeypatch.setattr("streams.web.pages.routing.lanes", lambda *_: (LANE,) * 30)
    address: str | None = "/ui/analytics?by=tenant&pool=main"
    seen: list[str] = []
    text = ""
    while address is not None:
        text = await see(rig, address)
        assert len(text) < 100_000
        seen += re.findall(r'title="(tenant-\d+) of', text)
        address = next((html.unescape(one) for one in re.findall(r'<a href="([^"]+)">more</a>', text)), None)
    assert seen == [f"tenant-{number:03}" for number in range(200)]
    assert "10 of 45; the files have all." in text


async def test_a_token_opens_a_session_and_the_cookie_does_not_hold_it() -> None:
    """The pages are seen with the session, until the logout."""
    rig = WebRig()
    asked = await rig.ask("GET", "/ui/waiting?pool=main")
    assert (asked.status, 'name="to" value="/ui/waiting?pool=main"' in asked.body.decode()) == (401, True)
    token = rig.tokens["reader"]
    reply = await login(rig, token, "/ui/waiting")
    assert (reply.status, reply.headers["location"]) == (303, "/ui/waiting")
    sets = reply.headers["set-cookie"]
    assert token not in sets
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in sets.split(";")}
    cookie = cookie_of(reply)
    assert (await rig.ask("GET", "/ui/waiting", cookie=cookie)).status == 200
    assert (await rig.ask("GET", "/waiting", cookie=cookie)).status == 401, "the API takes tokens only"
    form: Any = {"content_type": "application/x-www-form-urlencoded", "cookie": cookie}
    assert (await rig.ask("POST", "/ui/logout", b"", **form)).status == 303
    assert (await rig.ask("GET", "/ui/waiting", cookie=cookie)).status == 401


async def test_a_wrong_token_and_a_wrong_role_see_nothing() -> None:
    """A producer has no page; a token that is not known gets the form again."""
    rig = WebRig()
    refused = await login(rig, "wrong")
    assert (refused.status, b"knows no such token" in refused.body) == (403, True)
    assert "set-cookie" not in refused.headers
    cookie = cookie_of(await login(rig, rig.tokens["producer"]))
    assert (await rig.ask("GET", "/", cookie=cookie)).status == 403
    assert (await rig.ask("GET", "/", role="reader")).status == 200, "a token may be sent as to the API"


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}]
)
async def test_a_form_that_another_site_sends_is_refused(headers: dict[str, str]) -> None:
    """Also with the right token, so that no site logs a browser in as another."""
    rig = WebRig()
    body = f"token={rig.tokens['reader']}".encode()
    sent: Any = {"content_type": "application/x-www-form-urlencoded", **headers}
    reply = await rig.ask("POST", "/ui/login", body, **sent)
    assert (reply.status, "set-cookie" in reply.headers) == (403, False)


@pytest.mark.parametrize("to", ["https://evil.example", "//evil.example", "/\\evil.example", "/tasks", "/ui/a%0d%0ab"])
async def test_a_login_leads_to_our_own_pages_only(to: str) -> None:
    """Any other address becomes the first page."""
    rig = WebRig()
    assert (await login(rig, rig.tokens["reader"], to)).headers["location"] == "/"


def test_a_session_ends_by_itself() -> None:
    """After half a day its cookie is worth nothing."""
    now_s = [0.0]
    sessions = Sessions(lambda: now_s[0])
    request: Any = type("Request", (), {"cookies": {}})()
    request.cookies[COOKIE] = sessions.begin(WebRig().web.tokens.of_token("x"))  # type: ignore[arg-type]
    assert sessions.of(request) is not None
    now_s[0] = LIFE_S + 1
    assert sessions.of(request) is None


async def test_files_of_the_style_are_served_and_nothing_else() -> None:
    """Without a token, because the form to log in needs them."""
    rig = WebRig()
    for name, kind in (("slotwise.css", "text/css"), ("slotwise.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        reply = await rig.ask("GET", f"/ui/static/{name}")
        assert (reply.status, reply.headers["content-type"].startswith(kind)) == (200, True)
    for name in ("templating.py", "..%2Ftemplating.py", "base.html"):
        assert (await rig.ask("GET", f"/ui/static/{name}")).status == 404


def test_every_template_can_be_read() -> None:
    """Jinja compiles each, and escapes in each."""
    made = environment()
    names = made.list_templates()
    assert {"base.html", "now.html", "fleet.html", "waiting.html"} <= set(names)
    for name in names:
        made.get_template(name)
    assert made.from_string("{{ text }}").render(text="<b>\u202e") == "&lt;b&gt;\\u202e"
    assert cut("x" * 500, 10) == "x" * 9 + "…"
