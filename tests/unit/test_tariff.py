"""What a model charges for a request: by its length, by the time, and by what its tokens are."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from schemas.vocabulary import DIMENSIONS, Millis
from streams.core.policy.catalog import Model
from streams.core.policy.rulebook import load_rulebook
from streams.core.policy.tariff import Usage
from streams.shipped import shipped
from tests.reference.prices import next_change_ms, price

BOOK = load_rulebook(shipped("catalog.toml"), shipped("policy.toml"))
NOON = Millis(1_795_255_200_000)
#: As deepseek has them: cheap on working days but for two spans of the morning, and on the whole of each weekend.
OFF_PEAK = [
    {"from": "00:00", "to": "01:00", "weekdays": [1, 2, 3, 4, 5]},
    {"from": "04:00", "to": "06:00", "weekdays": [1, 2, 3, 4, 5]},
    {"from": "10:00", "to": "00:00", "weekdays": [1, 2, 3, 4, 5]},
    {"from": "00:00", "to": "00:00", "weekdays": [6, 7]},
]


def model(**named: Any) -> Model:
    """Give a model at $1 a million tokens in and $2 out, with these keys."""
    row = {
        "id": "m", "provider": "p", "product": "p", "tier": 1, "ratings": dict.fromkeys(DIMENSIONS, 5),
        "input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0, "context_window": 1_000, "output_tokens_max": 1_000,
    }  # fmt: skip
    return msgspec.convert(row | named, Model)


def at(text: str) -> Millis:
    """Give the milliseconds of a moment, UTC."""
    return Millis(round(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp() * 1000))


LENGTHS = {
    "up to the first length": (100_000, 100_000),
    "a token above it: the whole request has the price of the step": (100_001, 500_005),
    "far above": (400_000, 2_000_000),
}


@pytest.mark.rule("amend.36")
@pytest.mark.parametrize(("tokens", "want_uusd"), LENGTHS.values(), ids=LENGTHS.keys())
def test_a_long_prompt_costs_what_the_vendor_asks_for_long_prompts(tokens: int, want_uusd: int) -> None:
    """Not a fifth of it."""
    steep = model(price_steps=[{"above_input_tokens": 100_000, "input_usd_per_mtok": 5.0}])
    assert steep.tariff.estimate_uusd(tokens, 0, NOON) == want_uusd


@pytest.mark.rule("amend.36")
def test_a_price_left_out_of_a_step_is_that_of_the_step_below() -> None:
    """Of the second one as well."""
    steps = [
        {"above_input_tokens": 10, "output_usd_per_mtok": 4.0, "cache_read_usd_per_mtok": 0.5},
        {"above_input_tokens": 20, "input_usd_per_mtok": 3.0},
    ]
    rates = model(price_steps=steps).tariff.rates
    assert [rates(tokens, NOON) for tokens in (10, 11, 20, 21)] == [
        (1.0, 2.0, 1.0, 2.0, 2.0), (1.0, 4.0, 0.5, 4.0, 4.0), (1.0, 4.0, 0.5, 4.0, 4.0), (3.0, 4.0, 0.5, 4.0, 4.0),
    ]  # fmt: skip


@pytest.mark.rule("amend.36")
def test_the_shipped_rows_have_the_steps_of_the_price_file() -> None:
    """Haiku is five times dearer above 100,000 tokens, gpt-5 and minimax twice above 272,000 and 512,000."""
    cost = {
        (name, tokens): BOOK.models[name].tariff.estimate_uusd(tokens, 1_000, NOON)
        for name, tokens in (("haiku", 150_000), ("gpt-5", 300_000), ("minimax", 600_000), ("opus", 900_000))
    }
    assert cost == {
        ("haiku", 150_000): 77_500,
        ("gpt-5", 300_000): 2_430_000,
        ("minimax", 600_000): 362_400,
        ("opus", 900_000): 3_620_000,
    }


USAGES = {
    "nothing from the cache": (Usage(100, 10), 120),
    "all of it from the cache": (Usage(100, 10, cached=100), 30),
    "some of the answer is thinking": (Usage(100, 10, reasoning=4), 140),
    "both": (Usage(100, 10, cached=50, reasoning=10), 125),
}


@pytest.mark.rule("amend.36")
@pytest.mark.parametrize(("usage", "want_uusd"), USAGES.values(), ids=USAGES.keys())
def test_cached_and_reasoning_tokens_have_prices_of_their_own(usage: Usage, want_uusd: int) -> None:
    """They are parts of input and answer, and are not counted twice."""
    assert model(cache_read_usd_per_mtok=0.1, reasoning_usd_per_mtok=7.0).tariff.cost_uusd(usage, NOON) == want_uusd


@pytest.mark.rule("amend.36", "catalogue.price")
def test_a_price_of_cached_input_that_is_not_known_is_not_0() -> None:
    """Then cached tokens cost what other input does, and thinking what other output does."""
    assert model().tariff.cost_uusd(Usage(100, 10, cached=100, reasoning=10), NOON) == 120


@pytest.mark.rule("amend.36")
def test_an_estimate_takes_the_dearer_price_for_an_answer_that_may_be_thinking() -> None:
    """Its share is not known before; the settlement gives the difference back."""
    assert model(reasoning_usd_per_mtok=7.0).tariff.estimate_uusd(100, 10, NOON) == 170
    assert model(reasoning_usd_per_mtok=1.0).tariff.estimate_uusd(100, 10, NOON) == 120


@pytest.mark.rule("amend.36")
def test_a_fee_a_request_is_charged_whatever_the_tokens() -> None:
    """A model whose tokens cost nothing is not free then."""
    fee = model(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0, request_usd=0.02)
    assert fee.tariff.estimate_uusd(0, 0, NOON) == fee.tariff.estimate_uusd(900, 100, NOON) == 20_000
    assert fee.tariff.cost_uusd(Usage(5, 5), NOON) == 20_000
    assert not fee.tariff.is_free


HALVES = {
    "half a micro-dollar is a whole one": ({"input_usd_per_mtok": 0.5}, 1, 1),
    "less is none": ({"input_usd_per_mtok": 0.49}, 1, 0),
    "a negative 0 is 0": ({"input_usd_per_mtok": -0.0, "output_usd_per_mtok": -0.0}, 7, 0),
}


@pytest.mark.parametrize(("prices", "tokens", "want"), HALVES.values(), ids=HALVES.keys())
def test_amounts_are_whole_micro_dollars_rounded_half_up(prices: dict[str, float], tokens: int, want: int) -> None:
    """As before there were steps."""
    assert str(model(**prices).tariff.estimate_uusd(tokens, 0, NOON)) == str(want)


UNKNOWN: dict[str, dict[str, Any]] = {
    "no input price": {"input_usd_per_mtok": None},
    "no output price": {"output_usd_per_mtok": None},
    "a price above a length only": {
        "input_usd_per_mtok": None, "price_steps": [{"above_input_tokens": 500, "input_usd_per_mtok": 1.0}],
    },
}  # fmt: skip


@pytest.mark.rule("catalogue.price", "amend.36")
@pytest.mark.parametrize("prices", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_lacks_a_price_that_is_needed_has_no_cost(prices: dict[str, Any]) -> None:
    """Unknown is never 0; the fee alone is no price."""
    lacking = model(request_usd=1.0, **prices)
    assert lacking.tariff.estimate_uusd(100, 10, NOON) is lacking.tariff.cost_uusd(Usage(100, 10), NOON) is None
    assert not lacking.tariff.is_known


@pytest.mark.rule("amend.36")
def test_another_price_holds_from_the_minute_it_begins_to_the_minute_it_ends() -> None:
    """Over midnight, in UTC."""
    night = model(price_hours=[{"from": "16:30", "to": "00:30", "input_usd_per_mtok": 0.5}])
    times = ("16:29:59.999", "16:30", "23:59:59.999", "00:00", "00:29:59.999", "00:30", "12:00")
    cost = [night.tariff.estimate_uusd(100, 10, at(f"2026-11-21T{time}")) for time in times]
    assert cost == [120, 70, 70, 70, 70, 120, 120]


@pytest.mark.rule("amend.36")
def test_prices_of_working_days_and_weekends_change_when_the_vendors_do() -> None:
    """From Friday, 27 November 2026: the changes of a week, without those that change nothing."""
    off_peak = model(price_hours=[one | {"input_usd_per_mtok": 0.5} for one in OFF_PEAK]).tariff
    now, changes = at("2026-11-27T09:00"), []
    for _ in range(8):
        now = Millis(int(off_peak.next_change_ms(now)))
        changes.append(f"{dt.datetime.fromtimestamp(now / 1000, dt.UTC):%a %H:%M}")
    assert changes == [
        "Fri 10:00", "Mon 01:00", "Mon 04:00", "Mon 06:00", "Mon 10:00", "Tue 01:00", "Tue 04:00", "Tue 06:00",
    ]  # fmt: skip


@pytest.mark.rule("amend.36")
def test_at_every_minute_of_a_week_the_price_is_the_one_that_a_plain_reading_of_the_row_gives() -> None:
    """And the next change is the next minute with another one."""
    row = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0, "price_hours": [
        one | {"input_usd_per_mtok": i} for i, one in enumerate(OFF_PEAK, 3)
    ]}  # fmt: skip
    tariff, start = model(**row).tariff, at("2026-11-26T00:00")
    for minute in range(0, 7 * 24 * 60, 7):
        now = Millis(start + minute * 60_000)
        assert tariff.estimate_uusd(1_000, 100, now) == price(row, 1_000, 100, now)
        if minute % 35 == 0:
            assert tariff.next_change_ms(now) == next_change_ms([row], now)


def test_a_model_with_another_price_has_another_tariff() -> None:
    """Though the first one's was used before."""
    first = model()
    assert first.tariff.estimate_uusd(100, 10, NOON) == 120
    assert msgspec.structs.replace(first, input_usd_per_mtok=2.0).tariff.estimate_uusd(100, 10, NOON) == 220
