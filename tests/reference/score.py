"""How good each model is for a task: cost, speed and quality, weighed by what the task is to favour."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from schemas.events import TaskPending
from tests.reference.prices import INPUT, OUTPUT, REASONING, prices_at
from tests.reference.rules import Model, Rules


def scores(rules: Rules, event: TaskPending, names: Iterable[str], now_ms: int) -> dict[str, float]:
    """The score of each of these models, to six digits."""
    models = [rules.model[name] for name in names]
    parts = {
        # The cheapest is the best.
        "cost": _spread(rules, {model["id"]: _cost(rules, event, model, now_ms) for model in models}, best=min),
        "speed": _spread(rules, {model["id"]: model.get("speed_tps") for model in models}, best=max),
        "quality": _spread(rules, {model["id"]: model.get("quality") for model in models}, best=max),
    }
    weights = _weights(rules, event)
    return {
        model["id"]: round(
            sum(weights[what] * parts[what].get(model["id"], 0.0) for what in ("cost", "speed", "quality"))
            + _extra(rules, event, model),
            6,
        )
        for model in models
    }


def _cost(rules: Rules, event: TaskPending, model: Model, now_ms: int) -> float | None:
    """Dollars a million tokens, at the task's mix of prompt and answer, with their share of a fee."""
    limit = rules.answer_tokens(event)
    output = limit if event.output_tokens is None else min(event.output_tokens, limit)
    total = event.input_tokens + output
    mix = round(16 * event.input_tokens / total) / 16 if total else 0.5
    prices = prices_at(model, event.input_tokens, now_ms)
    dear, dearer = prices[INPUT], prices[OUTPUT]
    if dear is None or dearer is None:
        return None
    fee = model.get("request_usd", 0.0) * 1e6 / max(1, total)
    return float(mix * dear + (1 - mix) * max(dearer, prices[REASONING] or 0.0) + fee)


def _spread(rules: Rules, values: dict[str, float | None], best: Callable[..., float]) -> dict[str, float]:
    """The known values from 0, the worst, to 1; nearly equal ones are equal, and where all are equal all are best."""
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return {}
    guard = rules.section("score")["tie_share"] * sum(known.values()) / len(known)
    anchor = None
    for name, value in sorted(known.items(), key=lambda item: item[1]):
        if anchor is None or value - anchor >= guard:
            anchor = value
        known[name] = anchor
    width = max(known.values()) - min(known.values())
    best_value = best(known.values())
    return {name: 1.0 - abs(value - best_value) / width if width else 1.0 for name, value in known.items()}


def _weights(rules: Rules, event: TaskPending) -> dict[str, float]:
    table, profile = rules.section("score"), rules.profile(event)
    weights: dict[str, float] = dict(table["weights"][rules.objective(event)])
    if profile is not None:
        weights = {what: weight * table["profiles"][profile][what] for what, weight in weights.items()}
    total = sum(weights.values())
    return {what: weight / total for what, weight in weights.items()}


def _extra(rules: Rules, event: TaskPending, model: Model) -> float:
    """The operator's bias and the role's bonus, less the penalty of a prompt that nearly fills the window."""
    table = rules.section("score")
    bonus = table["role_bonus"] if event.agent_role in model.get("roles", []) else 0.0
    filled = event.input_tokens + rules.longest_answer(event, model)
    start = table["context_from_share"]
    over = min(1.0, max(0.0, (filled / model["context_window"] - start) / (1.0 - start)))
    return float(table.get("bias", {}).get(model["id"], 0.0) + bonus - table["context_penalty"] * over)
