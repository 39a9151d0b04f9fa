"""Dead letters that operators send again or drop on their page: asked first, done as shown, and once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import pytest

from schemas.dead_letter_marks import DeadLetterMark, mark_record
from schemas.dead_letters import dead_letter_headers
from schemas.vocabulary import from_millis
from streams.operate.dead_letters import Treated, Treatment
from streams.views.dead_letters import DeadLetters, DeadLetterView, StoredRecord, collected
from tests.support.builders import START_MS
from tests.support.web_rig import WebRig
from tests.unit.test_web_page_of_a_task import FORM, operator
from tests.unit.test_web_pages import cookie_of, login

#: What stands in the topics, newest last.
Topics = list[StoredRecord]


def refused(offset: int, topic: str = "task.pending", reason: str = "field title: is too long.") -> StoredRecord:
    """A refused task `t-OFFSET`."""
    value = b'{"task_id":"t-%d","pool":"main"}' % offset
    headers = dead_letter_headers(topic, 0, offset, reason, ())
    return StoredRecord(topic, 0, offset, START_MS + offset, b"main", value, headers)


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Topics:
    """Topics in memory: what is replayed or dropped is marked in them; offset 3 would be refused again."""
    stand: Topics = [
        refused(0),
        refused(1),
        refused(2, "slot.freed", "No such model."),
        refused(3, reason="It is no JSON."),
    ]

    async def read(*_: object, **__: object) -> DeadLetters:
        return collected(stand)

    def treating(how: Any) -> Callable[..., Any]:
        async def treat(
            _: object, found: DeadLetters, views: Sequence[DeadLetterView], *, by: str, because: str = "", dry_run: bool
        ) -> Treatment:
            treated = []
            for one in views:
                problem = "It would be refused again." if (how, one.offset) == ("replayed", 3) else None
                to = f"{one.topic}[0]" if how == "replayed" and problem is None else None
                treated.append(
                    Treated(dead_letter=one.dead_letter, id=one.id, to=to, done=not problem, problem=problem)
                )
                if not dry_run and not problem:
                    at = from_millis(START_MS)
                    mark = DeadLetterMark(mark=how, offsets=found.offsets(one), at=at, by=by, because=because)
                    value, headers = mark_record(mark)
                    stand.append(StoredRecord(one.topic, 0, len(stand) + 90, START_MS, b"main", value, headers))
            done = sum(one.done for one in treated)
            return Treatment(mark=how, dry_run=dry_run, done=done, not_done=len(treated) - done, dead_letters=treated)

        return treat

    monkeypatch.setattr("streams.web.pages.now.read_dead_letters", read)
    monkeypatch.setattr("streams.web.pages.treatments.replay", treating("replayed"))
    monkeypatch.setattr("streams.web.pages.treatments.drop", treating("dropped"))
    return stand


def states(stand: Topics) -> dict[str, tuple[str, str | None]]:
    """What became of each dead letter, and by whom."""
    return {
        one.dead_letter: (one.state, one.marked.by if one.marked else None)
        for one in collected(stand).views(START_MS)  # type: ignore[arg-type]
    }


async def send(rig: WebRig, headers: dict[str, Any], how: str, **fields: str) -> tuple[int, str]:
    """Send a form, and return the status and the text of the answer."""
    reply = await rig.ask("POST", f"/ui/dead-letters/{how}", urlencode(fields).encode(), **headers)
    return reply.status, reply.body.decode()


def confirmed(text: str, key: str) -> dict[str, str]:
    """The fields of the form that confirms."""
    found = dict(re.findall(r'<textarea name="(\w+)" hidden>([^<]*)</textarea>', text))
    return {**found, "form_key": key, "sure": "yes"}


async def test_a_replay_is_asked_first_and_does_what_was_shown(topics: Topics) -> None:
    """What came in between is not sent; what would be refused again is said and stays new."""
    rig = WebRig()
    headers, key = await operator(rig)
    status, text = await send(rig, headers, "replay", form_key=key, topic="task.pending")
    assert (status, "<h1>Replay 2 dead letters: is this meant?</h1>" in text) == (200, True)
    assert "will be sent to <code>task.pending[0]</code>" in text
    assert "It would be refused again." in text
    assert {state for state, _ in states(topics).values()} == {"new"}
    topics.append(refused(9))
    status, text = await send(rig, headers, "replay", **confirmed(text, key))
    assert (status, "<h1>2 dead letters were replayed.</h1>" in text) == (200, True)
    assert states(topics) == {
        "task.pending/0/0": ("replayed", "a-operator"),
        "task.pending/0/1": ("replayed", "a-operator"),
        "slot.freed/0/2": ("new", None),
        "task.pending/0/3": ("new", None),
        "task.pending/0/9": ("new", None),
    }


async def test_what_was_treated_before_is_not_treated_again(topics: Topics) -> None:
    """The second of two clicks does nothing, and says who was first."""
    rig = WebRig()
    headers, key = await operator(rig)
    _, text = await send(rig, headers, "replay", form_key=key, dead_letters="task.pending/0/0")
    fields = confirmed(text, key)
    assert (await send(rig, headers, "replay", **fields))[0] == 200
    before = len(topics)
    status, text = await send(rig, headers, "replay", **fields)
    assert (status, "task.pending/0/0 was replayed by a-operator" in text) == (422, True)
    assert len(topics) == before


async def test_a_drop_needs_a_reason_and_keeps_it(topics: Topics) -> None:
    """Without one nothing is asked; then the page shows what became of it, and no form."""
    rig = WebRig()
    headers, key = await operator(rig)
    status, text = await send(rig, headers, "drop", form_key=key, dead_letters="slot.freed/0/2", because=" ")
    assert (status, "because of what they need nothing more" in text) == (422, True)
    status, text = await send(rig, headers, "drop", form_key=key, dead_letters="slot.freed/0/2", because="a test")
    assert (status, "Drop 1 dead letter: is this meant?" in text) == (200, True)
    _, text = await send(rig, headers, "drop", **confirmed(text, key))
    assert "1 dead letter was dropped." in text
    (mark,) = [one.marked for one in collected(topics).views(START_MS) if one.marked]  # type: ignore[arg-type]
    assert (mark.by, mark.because) == ("a-operator", "a test")


async def test_the_page_offers_it_to_operators_and_the_commands_to_readers(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one that is new; at once for all new ones of the filter."""

    async def records(*_: object) -> list[StoredRecord]:
        return [topics[0]]

    monkeypatch.setattr("streams.web.pages.dead_letters.records_at", records)
    rig = WebRig()
    headers, key = await operator(rig)
    await send(rig, headers, "replay", form_key=key, dead_letters="task.pending/0/0")  # the page has read them now
    listed, one = "/ui/dead-letters?topic=task.pending", "/ui/dead-letters?show=task.pending/0/0"
    text = (await rig.ask("GET", listed, cookie=headers["cookie"])).body.decode()
    assert "Replay the 3 new ones here" in text
    assert '<input type="hidden" name="topic" value="task.pending">' in text
    assert (
        '<input type="hidden" name="dead_letters" value="task.pending/0/0">'
        in (await rig.ask("GET", one, cookie=headers["cookie"])).body.decode()
    )
    cookie = cookie_of(await login(rig, rig.tokens["reader"]))
    assert "<button>Replay" not in (await rig.ask("GET", listed, cookie=cookie)).body.decode()
    text = (await rig.ask("GET", one, cookie=cookie)).body.decode()
    assert "slotwise dlq replay task.pending/0/0" in text
    assert "<button>Replay" not in text


async def test_what_is_not_there_and_an_empty_filter_are_refused(topics: Topics) -> None:
    """With a sentence, and nothing is done."""
    rig = WebRig()
    headers, key = await operator(rig)
    for fields, says in (
        ({"dead_letters": "task.pending/0/77"}, "There is no dead letter task.pending/0/77"),
        ({"reason": "none such"}, "No new dead letter matches"),
    ):
        status, text = await send(rig, headers, "replay", form_key=key, **fields)
        assert (status, says in text) == (422, True)
    assert (await send(rig, headers, "eat", form_key=key))[0] == 422
    assert len(topics) == 4


async def test_it_needs_the_form_of_an_operators_session(topics: Topics) -> None:
    """A reader, another session's key and a token without a session are refused."""
    rig = WebRig()
    headers, key = await operator(rig)
    reader = {"content_type": FORM, "cookie": cookie_of(await login(rig, rig.tokens["reader"]))}
    for sent, form_key in ((headers, "x"), (reader, key), ({"content_type": FORM, "role": "operator"}, key)):
        assert (await send(rig, sent, "replay", form_key=form_key, topic="task.pending", sure="yes"))[0] == 403
    own = next(one.form_key for one in rig.web.sessions._known.values() if one.caller.name == "a-reader")
    status, text = await send(rig, reader, "replay", form_key=own, topic="task.pending", sure="yes")
    assert (status, "for the role operator" in text) == (403, True)
    assert {state for state, _ in states(topics).values()} == {"new"}


async def test_of_many_the_newest_are_treated_at_once(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a form has room for; it is said that there are more."""
    monkeypatch.setattr("streams.web.pages.treatments.AT_ONCE_MAX", 2)
    rig = WebRig()
    headers, key = await operator(rig)
    _, text = await send(rig, headers, "drop", form_key=key, because="a test")
    assert "Drop 2 dead letters: is this meant?" in text
    assert "These are the newest; 2 more match, for another time." in text
    await send(rig, headers, "drop", **confirmed(text, key))
    assert [one for one, (state, _) in states(topics).items() if state == "new"] == [
        "task.pending/0/1", "task.pending/0/0",
    ]  # fmt: skip


async def test_a_broker_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do before it is done again."""

    async def away(*_: object, **__: object) -> DeadLetters:
        raise OSError

    monkeypatch.setattr("streams.web.pages.now.read_dead_letters", away)
    rig = WebRig()
    headers, key = await operator(rig)
    status, text = await send(rig, headers, "replay", form_key=key)
    assert (status, "does not answer (OSError)" in text) == (503, True)
