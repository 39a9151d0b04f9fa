"""What a request costs: by what its tokens are, how long its input is, and what time it is."""

from __future__ import annotations

import datetime as dt
from typing import Any

Model = dict[str, Any]
INPUT, OUTPUT, CACHED, REASONING = (f"{kind}_usd_per_mtok" for kind in ("input", "output", "cache_read", "reasoning"))
DAY_MS = 24 * 3_600_000


def price(
    model: Model, input_tokens: int, output_tokens: int, now_ms: int, cached: int = 0, thought: int | None = None
) -> int | None:
    """Micro-dollars for so many tokens, rounded half up; a dollar a million tokens is a micro-dollar a token.

    `thought` None: how much of the answer will be thinking is not known, so all of it has the dearer price.
    """
    prices = prices_at(model, input_tokens, now_ms)
    dear, dearer = prices[INPUT], prices[OUTPUT]
    if dear is None or dearer is None:
        return None
    cached_price, thought_price = prices[CACHED], prices[REASONING]
    cheap = dear if cached_price is None else cached_price
    thinking = dearer if thought_price is None else thought_price
    if thought is None:
        thought = output_tokens if thinking > dearer else 0
    said = (input_tokens - cached) * dear + (output_tokens - thought) * dearer
    return int(said + cached * cheap + thought * thinking + model.get("request_usd", 0.0) * 1e6 + 0.5)


def is_free(model: Model) -> bool:
    """Whether it costs nothing, whatever is asked of it, and that is known."""
    rows = [model, *model.get("price_steps", []), *model.get("price_hours", [])]
    prices = [row[key] for row in rows for key in (INPUT, OUTPUT, CACHED, REASONING) if key in row]
    return INPUT in model and OUTPUT in model and not any(prices) and not model.get("request_usd")


def prices_at(model: Model, input_tokens: int, now_ms: int) -> dict[str, float | None]:
    """The prices that hold for an input of that length at that time."""
    prices: dict[str, float | None] = {key: model.get(key) for key in (INPUT, OUTPUT, CACHED, REASONING)}
    steps = [step for step in model.get("price_steps", []) if input_tokens > step["above_input_tokens"]]
    hours = [one for one in model.get("price_hours", []) if is_within(one, now_ms)]
    for special in (*steps, *hours):
        prices |= {key: special[key] for key in prices if key in special}
    return prices


def is_within(hours: dict[str, Any], now_ms: int) -> bool:
    """Whether it is one of those hours of one of those days."""
    now = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    time, first, after = f"{now:%H:%M}", hours["from"], hours["to"]
    inside = first <= time < after if first < after else time >= first or time < after
    return inside and now.isoweekday() in hours.get("weekdays", range(1, 8))


def next_change_ms(models: list[Model], now_ms: int) -> int | None:
    """When a price changes next because it is another hour."""
    midnight_ms = now_ms - now_ms % DAY_MS
    times = {"00:00", *(one[end] for model in models for one in model.get("price_hours", []) for end in ("from", "to"))}
    moments = sorted(
        midnight_ms + day * DAY_MS + (int(time[:2]) * 60 + int(time[3:])) * 60_000 for day in range(9) for time in times
    )
    timed = [model for model in models if "price_hours" in model]
    return next(
        (
            at_ms
            for at_ms in moments
            if at_ms > now_ms and any(prices_at(model, 0, at_ms) != prices_at(model, 0, at_ms - 1) for model in timed)
        ),
        None,
    )
