"""Golden histories: what the rules say, written by hand, against what the router does, step by step."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from schemas.events import BudgetCredited, ModelDrained
from schemas.input import Input
from schemas.steps import encode_step
from schemas.vocabulary import INPUT_TOPICS, Millis, from_millis
from streams.core.router import Router
from tests.golden.history import HERE, History, HistoryStep, Picture, compare, files, read, said_ms, span_ms
from tests.support.builders import START_MS, inputs, slot, task
from tests.support.router_rig import RouterRig, picture

FILES = files()


def name_of(path: Path) -> str:
    """Name a history as people do."""
    return str(path.relative_to(HERE).with_suffix(""))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_what_happens_is_what_the_rules_say(path: Path) -> None:
    """Each step is also computed twice, applied from its journal record, and computed after a restart.

    Between those a step of other things, ten minutes later, is computed and discarded.
    """
    history = read(path)
    rig = RouterRig(book=history.book)
    seen = Picture()
    for step in history.steps:
        batch = _batch(rig, step)
        rig.discarded = _other_things(rig)
        restarted = Router.restore(0, history.book, picture(rig.router))
        came = rig.take(batch)
        assert encode_step(restarted.handle(batch)) == encode_step(came), (
            f"{history.name}, step {step.number}: after a restart the step is another one"
        )
        seen.take(came, rig.router.due_ms())
        want, got = compare(step, came, seen)
        if want != got:
            pytest.fail(_difference(history, step, want, got), pytrace=False)


def test_every_history_says_what_it_is_about() -> None:
    """A newcomer reads title and why; no two histories have the same title, and none expects nothing."""
    histories = [read(path) for path in FILES]
    titles = [history.title for history in histories]
    assert sorted(set(titles)) == sorted(titles)
    assert [one.name for one in histories if not one.rules or not one.why.endswith(".")] == []
    assert [one.name for one in histories if not any(step.want for step in one.steps if step.number > 0)] == []


def test_every_history_that_routes_expects_a_sentence() -> None:
    """The stored reason is the reason only where something holds it to what decided."""
    silent = [history.name for history in map(read, FILES) if (routed := _routed(history)) and not any(routed)]
    assert silent == [], "say why one of the tasks was routed: {is: routed SLOT, says: ...}"


def _other_things(rig: RouterRig) -> list[Input]:
    """Another fleet, other marks, another budget, and tasks that would take every slot."""
    model, at = next(iter(rig.book.models)), from_millis(START_MS)
    return inputs(
        *(slot(f"other-{name}", name) for name in rig.book.models),
        ModelDrained(control_id="other-1", model=model, by="ops", at=at),
        BudgetCredited(control_id="other-2", pool="main", tenant_id="acme", amount_usd=0.5, by="ops", at=at),
        *(task(f"other-{number}", ev=float(number), tenant_id="acme", priority=95) for number in range(12)),
        now_ms=rig.now_ms + 600_000,
    )


def _routed(history: History) -> list[str]:
    """What is expected of the sentence of each routed task; empty where nothing is."""
    expected = [step.want["expect"] for step in history.steps if isinstance(step.want.get("expect"), dict)]
    specs = [{"is": spec} if isinstance(spec, str) else spec for one in expected for spec in one.values()]
    return [spec.get("says", "") for spec in specs if spec["is"].startswith("routed ")]


@pytest.mark.parametrize(("text", "want_ms"), {"+0s": 0, "+1h30m": 5_400_000, "-1s": -1_000, "+0.001s": 1}.items())
def test_a_time_is_so_much_after_the_start(text: str, want_ms: int) -> None:
    """And is said in the same way in which it is read."""
    assert span_ms(text) == want_ms
    assert said_ms(want_ms) == text


def test_what_differs_is_shown_as_a_diff() -> None:
    """With the history, its reason and the step, so that no debugger is needed."""
    history = read(FILES[0])
    said = _difference(history, history.steps[-1], ["a: routed haiku-1", "same"], ["a: waits quota", "same"])
    assert history.why in said
    assert said.endswith("- a: routed haiku-1\n+ a: waits quota\n  same")


def _batch(rig: RouterRig, step: HistoryStep) -> list[Input]:
    """The records of a step as the lane hands them over, at the step's time."""
    rig.now_ms = START_MS + step.after_ms
    batch = []
    for record in step.records:
        topic = INPUT_TOPICS.index(record.topic)
        batch.append(
            Input(
                topic=topic,
                offset=rig._offsets[topic],
                now_ms=Millis(rig.now_ms),
                event=record.event,
                advice=record.advice,
            )
        )
        rig._offsets[topic] += 1
    return batch


def _difference(history: History, step: HistoryStep, want: list[str], got: list[str]) -> str:
    changed = [line for line in difflib.ndiff(want, got) if not line.startswith("?")]
    return "\n".join(
        (
            f"{history.name}: {history.title}",
            f"{', '.join(history.rules)}: {history.why}",
            f"At step {step.number} ({step.at}), - is what the rules say and + is what happened:",
            *changed,
        )
    )
