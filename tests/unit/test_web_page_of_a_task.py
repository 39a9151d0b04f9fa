"""The pages of a task, of decisions and of dead letters, and the orders of operators, in memory."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from schemas.vocabulary import GATES
from streams.database.connection import DatabaseUnreachable
from streams.operate.orders import Position, Submitted
from streams.views.dead_letters import StoredRecord, collected
from streams.views.decisions import Wanted, row_of
from streams.views.explain import Explained
from streams.views.task_view import entry_of, free_then, grid, history
from streams.web.probe import Probe
from tests.support.web_rig import WebRig
from tests.unit.test_web_pages import cookie_of, fleet, login, pend, see

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(autouse=True)
def audit(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Give the answers of the audit: it is away, until a test says otherwise."""
    answers: list[Any] = [DatabaseUnreachable("Postgres is away.")]

    def asked(*_: object, **__: object) -> Any:
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    monkeypatch.setattr("streams.web.pages.task.explain_whole", asked)
    monkeypatch.setattr("streams.web.pages.decisions.decisions_by_time", asked)
    return answers


async def test_a_task_is_explained_before_the_audit_has_it() -> None:
    """Where it is, the sentence, and the grid, from what was followed; and that the audit is away."""
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1", "opus-1")
    await pend(rig, "t-1", title="Fix typo", requires={"coding": 4})
    text = await see(rig, "/ui/tasks/t-1?pool=main")
    assert "<h1>Fix typo</h1>" in text
    assert "It runs on haiku-1, attempt 1; its lease ends in " in text
    assert '<p class="sentence">Lowest capable tier for coding&gt;=4; haiku-1 is its only available slot.</p>' in text
    assert "Free then, and open to it: haiku, opus." in text
    assert "Postgres is away." in text


async def test_a_waiting_task_shows_which_gate_refused_which_model() -> None:
    """The failing cell is marked, gates before it passed, gates behind it were not asked."""
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1")
    await pend(rig, "t-1", requires={"coding": 10})
    (decided,) = rig.following.decisions("main", "t-1")
    (row,) = grid(entry_of(decided.decision, decided.step))
    assert (row.model, row.verdict) == ("haiku", "capability")
    assert row.marks == ("failed", *["open"] * (len(GATES) - 1))
    (shown,) = (await rig.ask("GET", "/ui/tasks/t-1?pool=main&table=models&format=json")).json["rows"]
    assert (shown["model"], shown[GATES[0]], shown[GATES[1]], shown["score"]) == ("haiku", "failed", "open", None)
    assert "<title>t-1 · slotwise</title>" in await see(rig, "/ui/tasks/t-1?pool=main&sort=-models.score")
    text = await see(rig, "/ui/tasks/t-1")
    assert text.count('class="gate failed"') == 1
    assert "It has waited for " in text


@pytest.mark.parametrize(
    ("verdict", "want"),
    {
        "chosen": ("passed",) * len(GATES),
        "busy": ("passed",) * len(GATES),
        "floor": ("passed",) * 3 + ("failed",) + ("open",) * (len(GATES) - 4),
        "unheard": ("open",) * len(GATES),
    }.items(),
)
def test_gates_are_marked_in_their_order(verdict: str, want: tuple[str, ...]) -> None:
    """Of a verdict that this version does not know nothing is said."""
    (row,) = grid({"alternatives": [{"model": "opus", "gate": verdict, "means": ""}]})
    assert row.marks == want


async def test_an_entry_from_memory_has_what_the_audit_has() -> None:
    """The same names, so that the page needs one way to show both."""
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1")
    await pend(rig, "t-1", ev=5.0)
    (decided,) = rig.following.decisions("main", "t-1")
    entry = entry_of(decided.decision, decided.step)
    assert {"decided_at", "at", "reason", "chosen_slot_id", "estimated_cost_usd", "mode", "seq", "work"} <= entry.keys()
    assert not [name for name in entry if name.endswith(("_ms", "_uusd"))]
    assert free_then(entry) == ["haiku"]
    (shown,) = history([entry], None, None)[-1:]
    assert (shown.what, shown.decision_id) == ("routed to haiku-1", entry["decision_id"])
    assert row_of(decided.decision, decided.step)["estimated_cost_usd"] == entry["estimated_cost_usd"]


async def test_a_task_that_is_nowhere_is_a_404_and_one_of_the_audit_a_page(audit: list[Any]) -> None:
    """With the trouble of the audit, where it could not be asked."""
    rig = WebRig(tokens=False)
    reply = await rig.ask("GET", "/ui/tasks/t-9")
    assert (reply.status, b"Postgres is away." in reply.body) == (404, True)
    audit[0] = Explained()
    assert (await rig.ask("GET", "/ui/tasks/t-9")).status == 404
    await fleet(rig, "haiku-1")
    await pend(rig, "t-1")
    (decided,) = rig.following.decisions("main", "t-1")
    entry = {**entry_of(decided.decision, decided.step), "task_id": "t-9"}
    audit[0] = Explained(history=[entry], decision=entry, why_not={})
    assert "from the audit" in await see(rig, "/ui/tasks/t-9")


async def test_decisions_are_filtered_by_the_address(audit: list[Any]) -> None:
    """The newest first; a word in a cell is the filter for it."""
    audit[0] = []
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1")
    for number in range(3):
        await pend(rig, f"t-{number}", lane="docs" if number else "code")
        rig.producer.ahead_ms += 1  # decisions of one ms are in the order of their ids
    rows = (await rig.ask("GET", "/ui/decisions?format=json")).json["rows"]
    assert [row["task_id"] for row in rows] == ["t-2", "t-1", "t-0"]
    rows = (await rig.ask("GET", "/ui/decisions?format=json&outcome=waiting&lane=docs")).json["rows"]
    assert [row["task_id"] for row in rows] == ["t-2", "t-1"]
    text = await see(rig, "/ui/decisions?lane=docs")
    assert 'href="/ui/decisions?lane=docs&amp;outcome=waiting"' in text
    assert (await rig.ask("GET", "/ui/decisions?before=x")).status == 422


async def test_a_decision_shows_the_title_of_a_task_that_is_over(audit: list[Any]) -> None:
    """The router has forgotten the task; its decision has the title."""
    audit[0] = []
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1")
    await pend(rig, "t-1", title="Fix typo")
    done = {"lease": 1, "outcome": {"task_id": "t-1", "status": "success"}}
    assert (await rig.ask("POST", "/slots/haiku-1/freed", {"pool": "main", **done})).status == 202
    assert rig.following.task("main", "t-1") is None
    (row,) = (await rig.ask("GET", "/ui/decisions?format=json")).json["rows"]
    assert (row["task_id"], row["title"]) == ("t-1", "Fix typo")


async def test_decisions_are_filtered_alike_on_the_page_and_by_the_api(audit: list[Any]) -> None:
    """By everything that sums are by; `(none)` means those that do not say it, and an empty field nothing."""
    audit[0] = []
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1", "opus-1")
    await pend(rig, "t-1", agent_role="writer", complexity="trivial")
    await pend(rig, "t-2", agent_role="coder", complexity="expert")
    await pend(rig, "t-3")
    for query, want in {
        "role=writer": {"t-1"},
        "role=(none)": {"t-3"},
        "complexity=expert": {"t-2"},
        "tier=1": {"t-1"},
        "tier=(none)": {"t-3"},
        "provider=anthropic": {"t-1", "t-2"},
        "provider=anthropic&model=opus&complexity=expert&role=coder&tier=3&mode=live": {"t-2"},
        "mode=shadow": set(),
        "role=&tier=&outcome=&mode=": {"t-1", "t-2", "t-3"},
        "reason=capable_busy": {"t-3"},
    }.items():
        rows = (await rig.ask("GET", f"/ui/decisions?format=json&{query}")).json["rows"]
        found = (await rig.ask("GET", f"/decisions?{query}")).json["decisions"]
        assert {row["task_id"] for row in rows} == {one["task_id"] for one in found} == want, query
    for path in ("/ui/decisions", "/decisions"):
        assert (await rig.ask("GET", f"{path}?tier=one")).status == 422
    text = await see(rig, "/ui/decisions?tier=1&complexity=other&role=writer&since=2026-01-01T00:00:00.000Z")
    assert {"<option selected>1</option>", "<option selected>other</option>"} <= set(
        re.findall("<option.*?</option>", text)
    )
    assert 'name="since" value="2026-01-01T00:00:00.000Z"' in text
    for since in ("2099-01-01T00:00:00.000Z", "2099-01-01T00"):
        assert (await rig.ask("GET", f"/ui/decisions?format=json&since={since}")).json["rows"] == []
    assert len((await rig.ask("GET", "/ui/decisions?format=json&since=2026-01-01T00")).json["rows"]) > 2


async def test_decisions_are_read_either_way_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first: those of the audit, then those that it does not have yet; page by page."""
    rig = WebRig(tokens=False)
    await fleet(rig, "haiku-1")
    for number in range(70):
        rig.producer.ahead_ms += 1
        await pend(rig, f"t-{number:02}")
    known = [row_of(one.decision, one.step) for one in rig.following.latest][:60]

    def asked(*_: object, behind: tuple[str, str], limit: int, oldest_first: bool = False, **__: object) -> Any:
        def place(row: Any) -> tuple[str, str]:
            return (row["decided_at"], row["decision_id"])

        rows = [row for row in known if (place(row) > behind if oldest_first else place(row) < behind)]
        return sorted(rows, key=place, reverse=not oldest_first)[:limit]

    monkeypatch.setattr("streams.web.pages.decisions.decisions_by_time", asked)
    want = [f"t-{number:02}" for number in range(70)]
    for sort, more, begin in (
        ("decisions.decided_at", "later", "the oldest"),
        ("-decisions.decided_at", "older", "the newest"),
    ):
        address, ids = f"/ui/decisions?sort={sort}", list[str]()
        for number in range(2):
            text = await see(rig, address)
            assert (f">{begin}</a>" in text) == (number > 0)
            ids += re.findall(r'<code class="under">([^<]+)</code>', text)
            address = next((html.unescape(one) for one in re.findall(rf'<a href="([^"]+)">{more}</a>', text)), "")
        assert address == ""
        assert ids == (want if more == "later" else want[::-1])
    rows = (await rig.ask("GET", "/ui/decisions?sort=decisions.decided_at&format=json")).json["rows"]
    assert [row["task_id"] for row in rows] == want


def test_the_sums_that_count_some_of_the_decisions_are_the_narrowest() -> None:
    """Those by models count routed decisions only, so they say nothing of others."""
    assert Wanted(pool="main", complexity="S").sums() == {}
    assert Wanted(role="r", complexity="S", model="m", lane="l").sums() == {
        "role, complexity, model": ["r", "S", "m"],
        "lane": ["l"],
    }
    assert Wanted(model="m", layer="l").sums() == {"model, layer": ["m", "l"]}
    assert Wanted(model="(none)", layer="l").sums() == {"layer": ["l"]}
    assert Wanted(tier="(none)", outcome="routed").sums() == {"tier": ["(none)"]}


async def test_decisions_that_the_audit_cannot_give_leave_those_of_memory() -> None:
    """With the sentence."""
    rig = WebRig(tokens=False)
    await pend(rig, "t-1")
    text = await see(rig, "/ui/decisions")
    assert "t-1" in text
    assert "Older decisions are not shown: Postgres is away." in text


async def test_dead_letters_have_their_reason_and_their_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest first; a record in full, on several lines."""
    headers = (("slotwise.reason", b"field title: is <b>bold</b>."),)
    value = b'{"task_id": "t-1", "title": "<script>"}'
    record = StoredRecord("task.pending", 0, 7, 1_700_000_000_000, b"main", value, headers)

    async def records(*_: object) -> list[StoredRecord]:
        return [record]

    async def gone(*_: object) -> list[StoredRecord]:
        return []

    async def letters() -> Any:
        return collected([record])

    monkeypatch.setattr("streams.web.pages.dead_letters.records_at", records)
    rig = WebRig(tokens=False)
    rig.web.probes["dead letters"] = Probe(letters, 3600)
    text = await see(rig, "/ui/dead-letters?show=task.pending/0/7")
    assert "<h1>1 dead letter is new;" in text
    assert "&#34;title&#34;: &#34;&lt;script&gt;&#34;" in text
    assert "slotwise dlq replay task.pending/0/7" in text
    missing = await see(rig, "/ui/dead-letters?show=task.pending/0/8")
    assert "There is no dead letter task.pending/0/8" in missing
    monkeypatch.setattr("streams.web.pages.dead_letters.records_at", gone)
    assert "It is no longer in its topic" in await see(rig, "/ui/dead-letters?show=task.pending/0/7")


async def operator(rig: WebRig) -> tuple[dict[str, Any], str]:
    """Log in as an operator, and return what a form is sent with, and its key."""
    cookie = cookie_of(await login(rig, rig.tokens["operator"]))
    page = await rig.ask("GET", "/ui/controls", cookie=cookie)
    found = re.search(r'name="form_key" value="([^"]+)"', page.body.decode())
    assert found is not None
    return {"content_type": FORM, "cookie": cookie}, found[1]


async def test_an_order_says_what_it_will_do_and_is_given_once_it_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first form asks, the second gives, under one id; the event is shown."""
    sent: list[Any] = []

    async def checked(*_: object) -> None:
        return None

    def submitted(_: object, event: Any, *, wait_s: float | None) -> Submitted:  # noqa: ARG001 -- as the real one
        sent.append(event)
        where = (Position(partition=0, offset=3, status="taken", seq=9),)
        return Submitted(control_id=event.control_id, kind="model.drained", topic="fleet.control", at=event.at,
                         by=event.by, pool=None, positions=where)  # fmt: skip

    monkeypatch.setattr("streams.web.routes.controls.check", checked)
    monkeypatch.setattr("streams.web.routes.controls.submit", submitted)
    rig = WebRig()
    await fleet(rig, "haiku-1", "opus-1")
    headers, key = await operator(rig)
    asked = await rig.ask("POST", "/ui/controls/drain", f"form_key={key}&model=haiku".encode(), **headers)
    text = asked.body.decode()
    assert "<h1>Drain a model: is this meant?</h1>" in text
    assert "haiku has 1 slot here, of which 0 have a task." in text
    assert sent == []
    fields = dict(re.findall(r'<textarea name="(\w+)" hidden>([^<]*)</textarea>', text))
    body = "&".join(f"{name}={value}" for name, value in {**fields, "form_key": key, "sure": "yes"}.items())
    given = await rig.ask("POST", "/ui/controls/drain", body.encode(), **headers)
    assert "<h1>It is in force.</h1>" in given.body.decode()
    assert "fleet.control[0]@3" in given.body.decode()
    (event,) = sent
    assert (event.model, event.by, event.control_id) == ("haiku", "a-operator", fields["control_id"])


async def test_what_an_order_would_do_is_what_the_router_would_decide() -> None:
    """Two tasks that wait for a drained model are routed when it is restored."""
    rig = WebRig()
    await rig.web.send("fleet.control", {"kind": "model.drained", "control_id": "c-1", "by": "ops", "model": "haiku",
                                         "at": "2026-11-21T10:00:00.000Z"})  # fmt: skip
    await fleet(rig, "haiku-1", "haiku-2")
    await pend(rig, "t-1")
    await pend(rig, "t-2")
    headers, key = await operator(rig)
    reply = await rig.ask("POST", "/ui/controls/restore", f"form_key={key}&name=haiku".encode(), **headers)
    assert "2 waiting tasks will move to haiku at once." in reply.body.decode()
    router = rig.following.partitions[0].router
    assert all(row.status.state == "waiting" for row in router.state.pools["main"].tasks.values()), "nothing was done"
    reply = await rig.ask("POST", "/ui/controls/cancel", f"form_key={key}&task_id=t-1&pool=main".encode(), **headers)
    assert "t-1 ends: Cancelled by a-operator." in reply.body.decode()
    policy = "[premium]%0d%0aev_percentile = 0.6"
    reply = await rig.ask("POST", "/ui/controls/policy", f"form_key={key}&policy_text={policy}".encode(), **headers)
    assert "premium.ev_percentile: 0.5 will be 0.6." in reply.body.decode()


@pytest.mark.parametrize(
    ("order", "fields", "says"),
    [
        ("drain", "model=opuss", "opus"),
        ("drain", "model=", "say which model"),
        ("exhaust", "name=codex&until=yesterday", "is no ISO time"),
        ("credit", "tenant_id=acme&pool=main&amount_usd=much", "is no number"),
        ("policy", "policy_text=[nothing]", "nothing"),
        ("nothing", "", "There is no order"),
    ],
)
async def test_a_mistake_in_an_order_is_said_before_anything_is_sent(order: str, fields: str, says: str) -> None:
    """As a page, with the sentence of the command line."""
    rig = WebRig()
    headers, key = await operator(rig)
    reply = await rig.ask("POST", f"/ui/controls/{order}", f"form_key={key}&{fields}".encode(), **headers)
    assert reply.status in (404, 422)
    assert says in reply.body.decode()


async def test_an_order_needs_the_form_of_the_session() -> None:
    """Another session's key, no key, a token without a session, and a reader are refused."""
    rig = WebRig()
    headers, key = await operator(rig)
    other, _ = await operator(rig)
    for sent, form_key in ((other, key), (headers, ""), (headers, "x")):
        reply = await rig.ask("POST", "/ui/controls/drain", f"form_key={form_key}&model=opus".encode(), **sent)
        assert (reply.status, b"another login" in reply.body) == (403, True)
    body = f"form_key={key}&model=opus".encode()
    assert (await rig.ask("POST", "/ui/controls/drain", body, role="operator", content_type=FORM)).status == 403
    assert (await rig.ask("POST", "/ui/controls/drain", body, role="reader", content_type=FORM)).status == 403
    text = (await rig.ask("GET", "/", role="reader")).body.decode()
    assert "Controls" not in text
