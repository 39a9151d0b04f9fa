"""The orders that a page can give: their fields, the event that they make, and in words what it would do now.

What it would do is asked of the router itself: it handles the event on the present state, and the step is thrown away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from schemas.events import FleetControl, PolicyActivated
from schemas.input import Input
from schemas.vocabulary import Millis
from streams.core.policy.difference import differences
from streams.core.policy.document import RulebookError
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.core.router import Router
from streams.operate.orders import CONTROL, moment_ahead
from streams.shipped import shipped, whole
from streams.views.units import many
from streams.web.problem import refused

Made: TypeAlias = dict[str, Any]
#: `model`, `product`: chosen from the catalogue in force.
Input_: TypeAlias = Literal["text", "number", "model", "product", "area"]
#: Sentences of the same kind on one page.
SAYS_MAX: Final = 12


class Field(Struct, frozen=True):
    """One field of a form."""

    name: str
    label: str
    kind: Input_ = "text"
    needed: bool = False
    hint: str = ""


class OrderForm(Struct, frozen=True):
    """One order."""

    name: str
    title: str
    says: str
    fields: tuple[Field, ...]
    #: Makes the event's own fields of those of the form.
    make: Callable[[Mapping[str, str], Rulebook], Made]
    danger: bool = False


_POOL: Final = Field("pool", "pool", hint="empty: all pools")
_ONE_POOL: Final = Field("pool", "pool", needed=True)
_ACCOUNT: Final = Field("account", "account", hint="empty: all accounts")
_TIME: Final = "3h, tomorrow 09:00, or 2026-11-21T15:00:00Z"


def _given(fields: Mapping[str, str], *names: str) -> Made:
    return {name: fields[name].strip() for name in names if fields.get(name, "").strip()}


def _ahead(fields: Mapping[str, str], name: str) -> Made:
    text = fields.get(name, "").strip()
    return {name: moment_ahead(text, name)} if text else {}


def _number(fields: Mapping[str, str], name: str) -> float:
    try:
        return float(fields.get(name, "").strip())
    except ValueError:
        raise refused(f"field {name}: {fields.get(name, '')!r} is no number.") from None


def _named(name: str, rulebook: Rulebook) -> Made:
    return {"model": name} if name in rulebook.models else {"product": name}


def _exhausted(fields: Mapping[str, str], rulebook: Rulebook) -> Made:
    own = _named(fields.get("name", "").strip(), rulebook)
    return {"kind": "model.exhausted", **own, **_ahead(fields, "until"), **_given(fields, "account", "pool")}


def _restored(fields: Mapping[str, str], rulebook: Rulebook) -> Made:
    own = _named(fields.get("name", "").strip(), rulebook)
    return {"kind": "model.restored", **own, **_given(fields, "account", "pool")}


def _quota(fields: Mapping[str, str], rulebook: Rulebook) -> Made:
    product = fields.get("product", "").strip()
    used = {"provider": rulebook.products.get(product, product), "utilisation": _number(fields, "utilisation")}
    own = _given(fields, "product", "window", "account", "pool")
    return {"kind": "quota.updated", **used, **own, **_ahead(fields, "resets_at")}


def _policy(fields: Mapping[str, str], rulebook: Rulebook) -> Made:
    text = fields.get("policy_text", "").replace("\r\n", "\n")
    try:
        made = load_rulebook(rulebook.catalog_text or shipped("catalog.toml"), whole(text).text)
    except RulebookError as error:
        raise refused(str(error)) from None
    return {
        "kind": "policy.activated",
        "policy": made.policy_hash,
        "catalog": made.catalog_hash,
        "policy_text": made.policy_text,
        "catalog_text": made.catalog_text,
    }


ORDERS: Final = (
    OrderForm(
        "drain", "Drain a model", "It gets no new task; what runs, finishes.",
        (Field("model", "model", "model", needed=True), Field("until", "until", hint=f"{_TIME}; empty: no end"), _POOL),
        lambda fields, _: {
            "kind": "model.drained", **_given(fields, "model", "pool"), **_ahead(fields, "until"),
        },
    ),
    OrderForm(
        "restore", "Restore a model or a product", "Ends its drain, its exhausted mark and its reported quota.",
        (Field("name", "model or product", "product", needed=True), _ACCOUNT, _POOL), _restored,
    ),
    OrderForm(
        "exhaust", "Mark a product as exhausted", "Its models get nothing until it resets; the mark ends by itself.",
        (
            Field("name", "model or product", "product", needed=True), Field("until", "until", needed=True, hint=_TIME),
            _ACCOUNT, _POOL,
        ),
        _exhausted,
    ),
    OrderForm(
        "quota", "Report the use of a quota", "The policy's curve decides what that refuses.",
        (
            Field("product", "product", "product", needed=True),
            Field("window", "window", needed=True, hint="5h, week"),
            Field("utilisation", "used share", "number", needed=True, hint="0.83 is 83 %"),
            Field("resets_at", "resets", hint=_TIME), _ACCOUNT, _POOL,
        ),
        _quota,
    ),
    OrderForm(
        "cancel", "Cancel a task", "It ends; a running one keeps its slot until that is freed.",
        (Field("task_id", "task", needed=True), _ONE_POOL),
        lambda fields, _: {"kind": "task.cancelled", **_given(fields, "task_id", "pool")},
        danger=True,
    ),
    OrderForm(
        "credit", "Credit a tenant", "From the first credit on the tenant pays by it; a negative amount takes back.",
        (
            Field("tenant_id", "tenant", needed=True), Field("amount_usd", "US dollars", "number", needed=True),
            _ONE_POOL,
        ),
        lambda fields, _: {
            "kind": "budget.credited", **_given(fields, "tenant_id", "pool"),
            "amount_usd": _number(fields, "amount_usd"),
        },
    ),
    OrderForm(
        "retire", "Retire a slot", "It finishes its task and gets no other.",
        (Field("slot_id", "slot", needed=True), _ONE_POOL),
        lambda fields, _: {"kind": "slot.retired", **_given(fields, "slot_id", "pool")},
        danger=True,
    ),
    OrderForm(
        "policy", "Activate a policy", "It decides on every partition from then on. What it leaves out is as shipped.",
        (Field("policy_text", "policy (TOML)", "area", needed=True),), _policy, danger=True,
    ),
)  # fmt: skip
BY_NAME: Final = {one.name: one for one in ORDERS}


def effects(event: FleetControl, routers: Iterable[Router], now_ms: Millis) -> Iterator[str]:
    """Say what an order would do now on these partitions.

    Raises:
        Problem: one of them would refuse it.
    """
    routed: Counter[str] = Counter()
    waits: Counter[str] = Counter()
    ended: list[str] = []
    known = list(routers)
    for router in known:
        at_ms = Millis(max(now_ms, router.now_ms))
        step = router.handle([Input(CONTROL, router.position(CONTROL) + 1, at_ms, event)])
        if step.rejected:
            raise refused(step.rejected[0].reason)
        for decision in step.decisions:
            if decision.outcome == "routed":
                routed[str(decision.chosen_model)] += 1
            elif decision.outcome == "waiting":
                waits[str(decision.reason_code)] += 1
            else:
                ended.append(f"{decision.task_id} ends: {decision.reason}")
    if (model := getattr(event, "model", None)) is not None:
        yield from _slots_of(model, event.pool, known)
    for model, count in routed.most_common():
        yield f"{many(count, 'waiting task')} will move to {model} at once."
    for reason, count in waits.most_common():
        yield f"{many(count, 'task')} will wait for another reason: {reason}."
    yield from ended[:SAYS_MAX]
    if isinstance(event, PolicyActivated) and known:
        yield from _changes(event, known[0].rulebook)
    if not (routed or waits or ended):
        yield "No task that waits now is routed, or waits for another reason, because of it."


def _slots_of(model: str, pool: str | None, routers: Iterable[Router]) -> Iterator[str]:
    slots = [
        slot
        for router in routers
        for name, one in router.state.pools.items()
        if pool in (None, name)
        for slot in one.slots.values()
        if slot.model == model
    ]
    busy = sum(slot.state == "leased" for slot in slots)
    yield f"{model} has {many(len(slots), 'slot')} here, of which {busy:,} {'has' if busy == 1 else 'have'} a task."


def _changes(event: PolicyActivated, rulebook: Rulebook) -> Iterator[str]:
    made = load_rulebook(event.catalog_text or "", event.policy_text or "")
    found = differences(rulebook.policy, made.policy)
    yield f"{many(len(found), 'value')} of the policy in force will change."
    for one in found[:SAYS_MAX]:
        yield f"{one.key}: {one.old} will be {one.new}."
