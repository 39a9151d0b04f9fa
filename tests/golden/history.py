"""The form of a golden history: one YAML file has what happens in a pool and what the rules decide.

Nothing here decides. A file becomes a `History`: rules to decide by, records as they stand on the wire, and after
each step what is expected, as lines of text, so that what differs can be shown as a diff. README.md beside this
file explains the form to people.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import msgspec
import yaml
from msgspec import Struct

from schemas.codec import read_event
from schemas.decision import Advice, Decision, LedgerRow, SlotRow, Step
from schemas.events import FleetControl
from schemas.input import Content, Misplaced
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, SLOT_FREED, TASK_PENDING, from_millis
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.shipped import ready_policies, shipped, whole
from tests.support.builders import START_MS

HERE = Path(__file__).parent
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SPAN = re.compile(r"([+-])((?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+)")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_TIMES = frozenset(("at", "until", "deadline", "not_before", "resets_at", "retry_at"))
#: What always names its pool: tasks, slots, and kinds of operators' events whose field is required.
_OF_A_POOL = frozenset((TASK_PENDING, SLOT_FREED)).union(
    str(kind.__struct_config__.tag)
    for kind in get_args(FleetControl)
    if any(one.required for one in msgspec.structs.fields(kind) if one.name == "pool")
)
#: Words of an expectation that are not the names of a decision's fields.
_FIELDS = {
    "because": "reason_code",
    "cost_usd": "estimated_cost_uusd",
    "lease_ends": "lease_expires_at_ms",
    "model": "chosen_model",
    "saved_vs_next_free_usd": "saved_vs_next_free_uusd",
    "saved_vs_premium_usd": "saved_vs_premium_uusd",
    "waiting_since": "waiting_since_ms",
}


class Record(Struct, frozen=True, kw_only=True):
    """One record as it stands on the wire, and what it was read as."""

    topic: str
    event: Content
    advice: Advice | None = None


class HistoryStep(Struct, frozen=True, kw_only=True):
    """Records that arrive together, and everything that is expected of them."""

    number: int
    after_ms: int
    at: str
    records: tuple[Record, ...]
    want: dict[str, Any]


class History(Struct, frozen=True, kw_only=True):
    """One file."""

    name: str
    title: str
    why: str
    rules: tuple[str, ...]
    book: Rulebook
    steps: tuple[HistoryStep, ...]


def span_ms(text: str) -> int:
    """The milliseconds of `+90s` or `+1h30m`."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time like +90s, +1h30m or -1s")
    total = sum(round(float(number) * _UNITS_MS[unit]) for number, unit in _PART.findall(found[2]))
    return -total if found[1] == "-" else total


def said_ms(after_ms: int) -> str:
    """A time after the start as people read it: `+1m30s`; the largest units first."""
    text, left = "", abs(after_ms)
    for unit in ("d", "h", "m"):
        count, left = divmod(left, _UNITS_MS[unit])
        text += f"{count}{unit}" if count else ""
    if left or not text:
        text += f"{left / 1000:g}s"
    return ("-" if after_ms < 0 else "+") + text


def files() -> list[Path]:
    """All histories, in a steady order."""
    return sorted(HERE.rglob("*.yaml"))


@cache
def read(path: Path) -> History:
    """Read one file; a mistake in it names the file and the step."""
    content = yaml.safe_load(path.read_text())
    name = str(path.relative_to(HERE).with_suffix(""))
    unknown = set(content) - {"title", "why", "rules", "rulebook", "rulebooks", "fleet", "evs_before", "steps"}
    if unknown:
        raise ValueError(f"{name}: unknown key {', '.join(sorted(unknown))}")
    texts = {"": _texts({})} | {book: _texts(change) for book, change in content.get("rulebooks", {}).items()}
    numbers = iter(range(1, 1_000_000))
    steps = [*_fleet(content.get("fleet", ())), *_evs_before(content.get("evs_before", {}))]
    return History(
        name=name,
        title=content["title"],
        why=" ".join(content["why"].split()),
        rules=tuple(content["rules"]),
        book=load_rulebook(*_texts(content.get("rulebook", {}))),
        steps=tuple(
            _step(name, number, step, texts, numbers)
            for number, step in enumerate([*steps, *content["steps"]], 1 - len(steps))
        ),
    )


# The rules of a history: the shipped ones, with changes.


def _texts(change: dict[str, Any]) -> tuple[str, str]:
    """The shipped catalogue and policy, or a ready one, as TOML with some models and keys changed; or a file's text."""
    ready = change.get("policy_file")
    text = whole(ready_policies()[ready.removesuffix(".toml")]).text if ready else shipped("policy.toml")
    catalog, policy = tomllib.loads(shipped("catalog.toml")), tomllib.loads(text)
    rows = {row["id"]: row for row in catalog["model"]}
    for model, changed in copy.deepcopy(change.get("catalog", {})).items():
        if model not in rows:
            rows[model] = rows[changed.pop("like")] | {"id": model}
        rows[model] = {key: value for key, value in (rows[model] | changed).items() if value is not None}
    for model in change.get("without", ()):
        del rows[model]
    _merge(policy, change.get("policy", {}))
    return _toml({"model": list(rows.values())}), whole(change["file"]).text if "file" in change else _toml(policy)


def _merge(into: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _toml(document: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(key)} = {_toml_value(value)}\n" for key, value in document.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, bool | int | float | str):
        return json.dumps(value)
    return str(value)  # a date


# What happens.


def _fleet(slots: Iterable[str | dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """`haiku-1` runs haiku; `{slot_id: b-7, model: haiku, account: a}` says so."""
    rows = [slot if isinstance(slot, dict) else {"slot_id": slot, "model": slot.rpartition("-")[0]} for slot in slots]
    if rows:
        yield {"at": "+0s", "events": [{SLOT_FREED: row} for row in rows]}


def _evs_before(evs: dict[float, int]) -> Iterator[dict[str, Any]]:
    """EVs that became pending before the first step; their tasks expired at once."""
    every = [ev for ev, times in evs.items() for _ in range(times)]
    rows = [{"task_id": f"before-{number}", "ev": ev, "deadline": "+0s"} for number, ev in enumerate(every)]
    if rows:
        yield {"at": "+0s", "events": [{TASK_PENDING: row} for row in rows], "expect": "anything"}


def _step(
    name: str, number: int, step: dict[str, Any], texts: dict[str, tuple[str, str]], numbers: Iterator[int]
) -> HistoryStep:
    step = dict(step)
    at = step.pop("at")
    after_ms = span_ms(at)
    events = step.pop("events", [{"tick": {}}])
    unknown = set(step) - _LINES.keys() - {"expect"}
    if unknown:
        raise ValueError(f"{name}: step {number} knows no {', '.join(sorted(unknown))}")
    try:
        records = tuple(_record(event, after_ms, texts, numbers) for event in chain.from_iterable(map(_many, events)))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name}: step {number}: {error!r}") from error
    return HistoryStep(number=number, after_ms=after_ms, at=at, records=records, want=step)


def _many(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One record, or with `times: 3` as many tasks, whose ids end in -1, -2, -3."""
    content = dict(content)
    times = content.pop("times", None)
    if times is None:
        yield content
        return
    ((word, fields),) = content.items()
    for number in range(1, times + 1):
        yield {word: fields | {"task_id": f"{fields['task_id']}-{number}"}}


def _record(
    content: dict[str, Any], after_ms: int, texts: dict[str, tuple[str, str]], numbers: Iterator[int]
) -> Record:
    content = dict(content)
    advice = msgspec.convert(content.pop("advice"), Advice) if "advice" in content else None
    keyed = content.pop("key", "by pool")
    home = content.pop("home", None)
    ((word, fields),) = content.items()
    topic = word if word in INPUT_TOPICS else FLEET_CONTROL
    if isinstance(fields, str):
        value = fields.encode()
        key = "main" if keyed == "by pool" else keyed
    else:
        fields = dict(fields)
        if topic == FLEET_CONTROL:
            own = {"control_id": f"c-{next(numbers)}", "by": "ops"} | ({} if word == FLEET_CONTROL else {"kind": word})
            fields = own | fields
        if word in _OF_A_POOL:
            fields = {"pool": "main"} | fields
        fields = _spelled({"at": said_ms(after_ms)} | fields, texts)
        value = json.dumps(fields).encode()
        key = fields.get("pool") if keyed == "by pool" else keyed
    event = read_event(topic, key.encode() if key is not None else None, value, ()) if home is None else Misplaced(home)
    return Record(topic=topic, event=event, advice=advice)


def _spelled(fields: dict[str, Any], texts: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Times as the wire spells them; `rulebook: NAME` as the hashes and texts of it."""
    if "rulebook" in fields:
        catalog, policy = texts[fields.pop("rulebook")]
        book = load_rulebook(catalog, policy)
        texted = {"policy_text": policy, "catalog_text": catalog}
        fields = {"policy": book.policy_hash, "catalog": book.catalog_hash} | texted | fields
    if isinstance(fields.get("outcome"), dict):
        fields = fields | {"outcome": _spelled(fields["outcome"], texts)}
    return {
        name: from_millis(START_MS + span_ms(value)) if name in _TIMES and _SPAN.fullmatch(str(value)) else value
        for name, value in fields.items()
        if value is not None
    }


# What is expected, and what came, line by line.


def compare(step: HistoryStep, came: Step, picture: Picture) -> tuple[list[str], list[str]]:
    """The lines that the file expects of a step, and those that the step gives."""
    want, got = [], []
    expect = step.want.get("expect", {})
    if expect != "anything":
        decided = {(one.pool, one.task_id): one for one in came.decisions}
        content = {_whom(name): _told(spec) for name, spec in expect.items()}
        for whom in sorted(decided.keys() | content.keys()):
            name = _name(*whom)
            want += _wanted(name, content[whom]) if whom in content else []
            got += _given(name, decided[whom], content.get(whom, {})) if whom in decided else []
        rejected = [one.reason for one in came.rejected]
        sentences = step.want.get("dead_letters", [])
        for place in range(max(len(rejected), len(sentences))):
            said = rejected[place] if place < len(rejected) else None
            hoped = sentences[place] if place < len(sentences) else None
            if hoped is not None:
                want.append(f"dead letter: {hoped}")
            if said is not None:
                got.append(f"dead letter: {hoped if hoped is not None and hoped in said else said}")
    for word, lines in _LINES.items():
        if word in step.want and lines is not None:
            given = lines(came, picture)
            if word in _PARTLY:
                given = _asked(step.want[word], given)
            want += _lines(word, step.want[word])
            got += _lines(word, given)
    return want, got


def _asked(want: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Of what is there only what a file names."""
    asked: dict[str, Any] = {}
    for key, value in want.items():
        inner = given.get(key, "gone")
        asked[key] = _asked(value, inner) if isinstance(value, dict) and isinstance(inner, dict) else inner
    return asked


class Picture(Struct, kw_only=True):
    """What a history may ask of the state: the last row of everything, by pool and id, and what is due."""

    slots: dict[tuple[str, str], SlotRow] = {}
    ledgers: dict[tuple[str, str], LedgerRow] = {}
    due_ms: int | None = None

    def take(self, step: Step, due_ms: int | None) -> None:
        """One more step has happened."""
        self.slots = dict(self.slots)
        for gone in step.slots_gone:
            self.slots.pop((gone.pool, gone.slot_id), None)
        self.slots |= {(row.pool, row.slot_id): row for row in step.slots}
        self.ledgers = self.ledgers | {(row.pool, row.tenant_id): row for row in step.ledgers}
        self.due_ms = due_ms


def _whom(name: str) -> tuple[str, str]:
    pool, slash, task_id = str(name).rpartition("/")
    return (pool if slash else "main", task_id)


def _name(pool: str, id_: str) -> str:
    """What is of the pool `main` goes by its id alone."""
    return id_ if pool == "main" else f"{pool}/{id_}"


def _told(spec: str | dict[str, Any]) -> dict[str, Any]:
    return {"is": spec} if isinstance(spec, str) else spec


def _is(one: Decision) -> str:
    if one.outcome == "routed":
        return f"routed {one.chosen_slot_id}"
    return f"waits {one.reason_code}" if one.outcome == "waiting" else one.outcome


def _wanted(name: str, spec: dict[str, Any]) -> list[str]:
    lines = [f"{name}: {spec['is']}"]
    for word, value in spec.items():
        if word != "is":
            lines += _lines(f"{name}.{word}", value)
    return lines


def _given(name: str, one: Decision, spec: dict[str, Any]) -> list[str]:
    lines = [f"{name}: {_is(one)}"]
    alternatives = json.loads(bytes(one.alternatives))
    for word, value in spec.items():
        field = _FIELDS.get(word, word)
        given: Any
        if word == "is":
            continue
        if word == "verdicts":
            given = {model: verdict["gate"] for model, verdict in alternatives.items()}
        elif word == "scores":
            given = {model: alternatives.get(model, {}).get("score") for model in value}
        elif word == "says":
            given = value if value in one.reason else one.reason
        else:
            given = getattr(one, field)
            if given is not None and field.endswith("_uusd"):
                given = given / 1_000_000
            elif given is not None and field.endswith("_ms"):
                given = said_ms(given - START_MS)
        lines += _lines(f"{name}.{word}", given)
    return lines


def _lines(head: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        return [line for key in sorted(value, key=str) for line in _lines(f"{head}.{key}", value[key])]
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value)) or "nothing"
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{round(value, 6):.10g}"
    if isinstance(value, str) and _SPAN.fullmatch(value):
        value = said_ms(span_ms(value))
    return [f"{head}: {value}"]


def _slots(_: Step, picture: Picture) -> dict[str, str]:
    return {
        _name(*key): f"{row.state} {row.task_id}" if row.task_id is not None else row.state
        for key, row in picture.slots.items()
    }


def _ledgers(_: Step, picture: Picture) -> dict[str, dict[str, float]]:
    return {
        _name(*key): {
            word: getattr(row, f"{word}_uusd") / 1_000_000 for word in ("credited", "available", "reserved", "consumed")
        }
        for key, row in picture.ledgers.items()
    }


def _percentiles(came: Step, _: Picture) -> dict[str, Any] | str:
    found = {row.pool: row for row in came.percentiles}.get("main")
    if found is None:
        return "as before"
    return {"samples": found.samples, "p50": found.p50, "p90": found.p90}


#: What a step of a file may ask besides `expect`.
_LINES: dict[str, Any] = {
    "dead_letters": None,
    "forwarded": lambda came, _: [f"{INPUT_TOPICS[row.topic]} to {row.to}" for row in came.forwarded],
    "counts": lambda came, _: dict(came.counts),
    "slots": _slots,
    "ledger": _ledgers,
    "ends": lambda came, _: {_name(row.pool, row.task_id): row.what for row in came.finished},
    "stops": lambda came, _: {
        _name(row.pool, row.task_id): f"{row.slot_id}/{row.lease} {row.reason_code}" for row in came.stopped
    },
    "finished": lambda came, _: {
        _name(row.pool, row.task_id): f"{row.status} after {row.attempts}" for row in came.ended
    },
    "duplicates": lambda came, _: dict(Counter(_name(row.pool, row.task_id) for row in came.duplicates)),
    "percentiles": _percentiles,
    "due": lambda _, picture: "never" if picture.due_ms is None else said_ms(picture.due_ms - START_MS),
    "history": lambda came, _: {row.task.task_id: [entry.what for entry in row.status.history] for row in came.dead},
    "work": lambda came, _: {
        row.outcome.task_id: None if row.cost_uusd is None else row.cost_uusd / 1_000_000 for row in came.work
    },
}
#: Of these a file names only what it is about.
_PARTLY = frozenset(("slots", "ledger"))
