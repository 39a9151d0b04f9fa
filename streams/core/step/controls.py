"""Makes marks from events of operators and probes. A function returns the reason when it refuses."""

from __future__ import annotations

from msgspec import Raw
from msgspec.json import encode
from msgspec.structs import replace

from schemas.events import (
    BreakerOpened,
    FleetControl,
    ModelDrained,
    ModelExhausted,
    ModelRestored,
    PolicyActivated,
    QuotaUpdated,
)
from schemas.marks import BreakerMark, DrainMark, ExhaustedMark, QuotaRow
from schemas.vocabulary import Millis, to_millis
from streams.core.policy.document import nearest
from streams.core.policy.rulebook import Rulebook
from streams.core.state.marks import REPORT_MEMORY_MS
from streams.core.state.spending import scopes_of
from streams.core.step.draft import StepDraft

MarkingControl = ModelExhausted | ModelRestored | ModelDrained | QuotaUpdated | BreakerOpened


def mark(draft: StepDraft, event: MarkingControl, now_ms: Millis, rulebook: Rulebook) -> str | None:
    """Set or end what the event names, in its pool or in all."""
    match event:
        case ModelExhausted():
            product, refusal = _product(event, rulebook)
            if refusal is None:
                row = ExhaustedMark(
                    pool=event.pool, product=product, account=event.account, until_ms=to_millis(event.until)
                )
                draft.mark(row)
            return refusal
        case ModelRestored():
            return _restore(draft, event, now_ms, rulebook)
        case ModelDrained():
            if event.model not in rulebook.models:
                return _unknown("model", event.model, rulebook.models)
            until_ms = to_millis(event.until) if event.until is not None else None
            draft.mark(DrainMark(pool=event.pool, model=event.model, drained=True, until_ms=until_ms))
        case QuotaUpdated():
            provider = rulebook.products.get(event.product)
            if provider is None:
                return _unknown("product", event.product, rulebook.products)
            if provider != event.provider:
                return f"product {event.product} is of provider {provider} in the catalogue, not of {event.provider}."
            draft.mark(_report(event, now_ms, rulebook))
        case BreakerOpened():
            return _open(draft, event, rulebook)
    return None


def _open(draft: StepDraft, event: BreakerOpened, rulebook: Rulebook) -> str | None:
    named = scopes_of(event.pool or "", event.tenant_id, event.lane)
    if len(named) > 2:  # noqa: PLR2004 -- tenant, lane, and the pool, which is always the last
        return "tenant_id and lane are both named: a cap is of one of them."
    cap = named[0]
    if not cap.name:
        return "neither tenant_id, lane nor pool is named; one of them says whose cap is meant."
    if rulebook.breaker.cap_uusd(cap) is None:
        return f"the policy caps no spend of {cap.of} {cap.name}."
    name = cap.name if cap.of != "pool" else None
    draft.mark(BreakerMark(pool=event.pool, of=cap.of, name=name, until_ms=to_millis(event.until)))
    return None


def _report(event: QuotaUpdated, now_ms: Millis, rulebook: Rulebook) -> QuotaRow:
    """Return the row of a report; one without a reset ends by the policy."""
    at_ms = min(max(to_millis(event.at), Millis(now_ms - REPORT_MEMORY_MS)), now_ms)
    unknown_ms = Millis(at_ms + rulebook.unknown_reset_ms)
    return QuotaRow(
        pool=event.pool,
        product=event.product,
        account=event.account,
        window=event.window,
        utilisation=min(1.0, event.utilisation),
        resets_at_ms=to_millis(event.resets_at) if event.resets_at is not None else unknown_ms,
        status=event.status,
        at_ms=at_ms,
    )


def written(event: FleetControl) -> Raw:
    """Return the event for the journal; texts of a policy are only in `Step.activated`."""
    if isinstance(event, PolicyActivated):
        event = replace(event, policy_text=None, catalog_text=None)
    return Raw(encode(event))


def _restore(draft: StepDraft, event: ModelRestored, now_ms: Millis, rulebook: Rulebook) -> str | None:
    product, refusal = _product(event, rulebook)
    if refusal is not None:
        return refusal
    draft.mark(ExhaustedMark(pool=event.pool, product=product, account=event.account))
    draft.mark(QuotaRow(pool=event.pool, product=product, account=event.account, at_ms=now_ms))
    if event.account is None:
        # A drain concerns a model under all accounts.
        for model in rulebook.catalog.model:
            if event.model == model.id or (event.model is None and model.product == product):
                draft.mark(DrainMark(pool=event.pool, model=model.id, drained=False))
    return None


def _product(event: ModelExhausted | ModelRestored, rulebook: Rulebook) -> tuple[str, str | None]:
    """Return the product that the event names, and the reason of a refusal."""
    if event.model is not None:
        model = rulebook.models.get(event.model)
        if model is None:
            return "", _unknown("model", event.model, rulebook.models)
        if event.product not in (None, model.product):
            return (
                "",
                f"model {model.id} is counted under {model.product}, not under {event.product}: name one of them.",
            )
        return model.product, None
    if event.product is None:
        return "", "neither product nor model is named; one of the two says what is meant."
    if event.product not in rulebook.products:
        return "", _unknown("product", event.product, rulebook.products)
    return event.product, None


def _unknown(what: str, word: str, known: object) -> str:
    return f"{what} {word} is not in the catalogue.{nearest(word, known)}"
