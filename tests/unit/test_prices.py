"""The catalogue beside LiteLLM's price file: what is taken from it, what is left alone, and what is said."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from streams.core.policy.catalog import Catalog
from streams.core.policy.document import read
from streams.operate.price_file import PriceFile, read_prices
from streams.operate.prices import Change, Refreshed, compare
from streams.shipped import shipped

PRICES = Path(__file__).parents[1] / "prices"
CATALOG = shipped("catalog.toml")
TODAY = dt.date(2026, 12, 1)
A_FILE = b'{"claude-opus-5-5": %s, "other": {"input_cost_per_token": 1e-06}}'


def rows(**changed: dict[str, Any]) -> PriceFile:
    """Give the slice, with some values of the row that opus is priced as changed."""
    found = read_prices((PRICES / "litellm_slice.json").read_bytes(), "slice")
    for name, values in changed.items():
        found.rows[name.replace("_", "-")].update(values)  # type: ignore[attr-defined]
    return found


def odd(release: str) -> PriceFile:
    """Give the odd rows of a release."""
    return read_prices((PRICES / f"litellm_{release}_odd.json").read_bytes(), release)


def of(model: str, found: tuple[Refreshed, ...]) -> Refreshed:
    """Find what was said of a model."""
    return next(one for one in found if one.model == model)


def catalog(text: str = CATALOG) -> Catalog:
    """Read a catalogue."""
    return read(text, Catalog, "catalog.toml")


def one_row(values: dict[str, Any], **more: Any) -> Refreshed:
    """Compare a catalogue of one model, which knows nothing yet but `more`, with a file of that row."""
    return priced_as("model", read_prices(json.dumps({"model": values, "other": PLAIN}).encode(), "f"), **more)


def priced_as(name: str, prices: PriceFile, **more: Any) -> Refreshed:
    """Compare a catalogue of one model, priced as that row."""
    row = {"context_window": 1_000_000, "output_tokens_max": 500_000, **more}
    text = "\n".join([HEAD, f"priced_as = {json.dumps(name)}", *(f"{key} = {value}" for key, value in row.items())])
    return compare(catalog(text), prices, TODAY)[0]


HEAD = """
[[model]]
id = "m"
provider = "p"
product = "q"
tier = 1
ratings = { coding = 1, safety = 1, reasoning = 1, analysis = 1, speed = 1, instruction_following = 1 }
"""
PLAIN = {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}


def values(found: Refreshed) -> dict[str, Any]:
    """Give what would be written, by key."""
    return {change.key: change.new for change in found.changes}


def test_the_shipped_catalogue_has_the_prices_and_windows_of_its_source() -> None:
    """Every model that the file prices has no value that differs; the local one is said and left alone."""
    found = compare(catalog(), rows(), TODAY)
    assert [(one.model, change) for one in found for change in one.changes] == []
    assert [one.model for one in found if not one.found] == ["local"]


def test_a_price_a_token_becomes_one_a_million_without_a_rounding_error() -> None:
    """75 billionths of a dollar a token are 0.075 dollars a million, not 0.07500000000000001; nor are theirs kept."""
    found = one_row({"input_cost_per_token": 7.5e-08, "output_cost_per_token": 5.0000000000000004e-08})
    assert values(found) == {"input_usd_per_mtok": 0.075, "output_usd_per_mtok": 0.05}
    assert found.changes[0] == Change("input_usd_per_mtok", None, 0.075)


class Left(Struct, frozen=True, kw_only=True):
    """A row that nothing is taken from."""

    values: dict[str, Any]
    why: str
    want: str


LEFT = {
    "a price of 0, which may mean unknown": Left(
        values={"input_cost_per_token": 0, "output_cost_per_token": 0.0}, why="zero", want="may mean unknown"
    ),
    "an answer for nothing beside a real price": Left(
        values={"output_cost_per_token": 0.0}, why="zero_beside_price", want="0 for its output beside a real price"
    ),
    "an input for nothing beside a real price": Left(
        values={"input_cost_per_token": 0}, why="zero_beside_price", want="0 for its input beside a real price"
    ),
    "an input for nothing beside a fee a request": Left(
        values={"input_cost_per_token": 0, "input_cost_per_request": 0.005},
        why="zero_beside_price", want="0 for its input beside a fee of $0.005 a request",
    ),
    "tokens for nothing beside a fee a request": Left(
        values={"input_cost_per_token": 0, "output_cost_per_token": 0, "input_cost_per_request": 0.005},
        why="zero_beside_price", want="0 for its input and output beside a fee of $0.005 a request",
    ),
    "no price": Left(values={"input_cost_per_token": None}, why="no_price", want="no price of input and output tokens"),
    "a price of characters": Left(
        values={"input_cost_per_token": None, "input_cost_per_character": 2.5e-07},
        why="no_price", want="for it, but output_cost_per_token, input_cost_per_character.",
    ),
    "a price that is text": Left(values={"output_cost_per_token": "cheap"}, why="no_price", want="no price"),
    "a price that is true": Left(values={"output_cost_per_token": True}, why="no_price", want="no price"),
    "a negative price": Left(values={"input_cost_per_token": -1}, why="no_price", want="no price"),
    "a price too small to differ from 0": Left(
        values={"input_cost_per_token": Decimal("1e-400")}, why="no_price", want="no price"
    ),
    "an image model": Left(values={"mode": "image_generation"}, why="other_mode", want="of mode image_generation"),
    "dollars per million in a field of dollars a token": Left(
        values={"output_cost_per_token": 0.06}, why="too_dear",
        want="output_cost_per_token is 0.06, that is $60,000 per million tokens, and no vendor charges more than $500",
    ),
    "the same above a length": Left(
        values={"input_cost_per_token_above_200k_tokens": 3}, why="too_dear", want="that is $3,000,000 per million"
    ),
    "a price without end": Left(values={"input_cost_per_token": Decimal("1e999999")}, why="too_dear", want="by hand"),
    "a fee beyond all reason": Left(values={"input_cost_per_request": 5000}, why="too_dear", want="$100 a request"),
    "tiers without a range": Left(
        values={"tiered_pricing": [PLAIN]}, why="broken_tiers", want="a tier without a range"
    ),
    "tiers that begin nowhere": Left(
        values={"tiered_pricing": [{**PLAIN, "range": [32_000, 64_000]}]}, why="broken_tiers", want="begin at 0"
    ),
    "a tier without a price": Left(
        values={"tiered_pricing": [{"range": [0, 64_000]}]}, why="broken_tiers", want="a tier without a price"
    ),
    "an alias of nothing": Left(
        values={"alias_of": "model-5"}, why="broken_alias", want="model is an alias of model-5, which is not in the"
    ),
    "an alias of itself": Left(
        values={"alias_of": "model"}, why="broken_alias", want="model is an alias of model: that ends nowhere"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param(case, id=situation) for situation, case in LEFT.items()])
@pytest.mark.rule("amend.36")
def test_a_row_that_says_no_price_to_believe_is_left_alone(case: Left) -> None:
    """What is not known stays as it is, and the reason is said, as a word for programs and a sentence for people."""
    raw = json.dumps({"model": {**PLAIN, **case.values}, "other": PLAIN}, default=str)
    for number in (value for value in case.values.values() if isinstance(value, Decimal)):
        raw = raw.replace(f'"{number}"', str(number))
    found = priced_as("model", read_prices(raw.encode(), "f"))
    assert (found.found, found.left, found.changes) == (False, case.why, ())
    (note,) = found.notes
    assert note.startswith("left alone: ")
    assert case.want in note


def test_a_known_price_of_nothing_stays_one() -> None:
    """The catalogue says 0, so the file's 0 means free."""
    free = {"input_usd_per_mtok": 0.0, "output_usd_per_mtok": 0.0}
    found = one_row({"input_cost_per_token": 0, "output_cost_per_token": 0, "cache_read_input_token_cost": 0}, **free)
    assert (values(found), found.notes) == ({"cache_read_usd_per_mtok": 0.0}, ())


@pytest.mark.rule("amend.36")
def test_a_fee_a_request_is_taken() -> None:
    """Beside prices of tokens; a fee of 0 is none."""
    assert values(one_row({**PLAIN, "input_cost_per_request": 0.005}))["request_usd"] == 0.005
    assert "request_usd" not in values(one_row({**PLAIN, "input_cost_per_request": 0}))


@pytest.mark.rule("amend.36")
def test_cached_input_for_nothing_is_left_out_and_said() -> None:
    """The rest of the row is taken."""
    found = priced_as("coralbricks/glm-5.3", odd("1.110.2"))
    assert found.found
    assert "cache_read_usd_per_mtok" not in values(found)
    assert found.notes == ("cache_read_input_token_cost is 0 beside a real price, which may mean unknown: left out.",)


@pytest.mark.rule("amend.36")
def test_thinking_has_a_price_of_its_own_where_it_differs() -> None:
    """A price of thinking that equals that of the answer is no news."""
    assert values(one_row({**PLAIN, "output_cost_per_reasoning_token": 8e-06}))["reasoning_usd_per_mtok"] == 8.0
    assert "reasoning_usd_per_mtok" not in values(one_row({**PLAIN, "output_cost_per_reasoning_token": 2e-06}))
    back = one_row({**PLAIN, "output_cost_per_reasoning_token": 2e-06}, reasoning_usd_per_mtok=8.0)
    assert values(back)["reasoning_usd_per_mtok"] == 2.0


@pytest.mark.rule("amend.36")
def test_every_threshold_becomes_a_step() -> None:
    """Of input, output and cached input; what a threshold does not name holds as below it."""
    found = values(priced_as("kyma/qwen3.7-flash", odd("1.110.2")))
    assert found["price_steps"] == [
        {"above_input_tokens": 32_000, "input_usd_per_mtok": 0.135, "output_usd_per_mtok": 0.54},
        {"above_input_tokens": 256_000, "input_usd_per_mtok": 0.27, "output_usd_per_mtok": 1.08},
    ]


def test_a_threshold_without_a_k_is_in_tokens() -> None:
    """LiteLLM reads both."""
    found = values(one_row({**PLAIN, "output_cost_per_token_above_500_tokens": 3e-06}))
    assert found["price_steps"] == [{"above_input_tokens": 500, "output_usd_per_mtok": 3.0}]


def test_a_vendor_that_charges_more_from_the_threshold_on_is_read_as_one() -> None:
    """LiteLLM counts xai's thresholds so, everybody else's above them."""
    (step,) = values(priced_as("xai/grok-4.3", odd("1.110.2")))["price_steps"]
    assert step == {
        "above_input_tokens": 199_999, "input_usd_per_mtok": 2.5, "output_usd_per_mtok": 5.0,
        "cache_read_usd_per_mtok": 0.4,
    }  # fmt: skip


def test_a_threshold_with_the_same_prices_is_no_step() -> None:
    """Nor is one that says 0 beside a real price, which is pointed out."""
    same = one_row({**PLAIN, "input_cost_per_token_above_200k_tokens": 1e-06})
    assert "price_steps" not in values(same)
    zeros = priced_as("gemini-2.0-flash-exp", odd("1.80.0"))
    assert "price_steps" not in values(zeros)
    assert zeros.notes == (
        "above 128,000 input tokens input_cost_per_token is 0 beside a real price, which may mean unknown: left out.",
        "above 128,000 input tokens output_cost_per_token is 0 beside a real price, which may mean unknown: left out.",
    )


def test_steps_that_the_catalogue_says_in_other_words_are_no_change() -> None:
    """Each price written out at each step is the same list."""
    file = {**PLAIN, "input_cost_per_token_above_100k_tokens": 5e-06, "input_cost_per_token_above_200k_tokens": 6e-06}
    steps = (
        "[{ above_input_tokens = 100_000, input_usd_per_mtok = 5.0, output_usd_per_mtok = 2.0 }, "
        "{ above_input_tokens = 200_000, input_usd_per_mtok = 6.0, cache_read_usd_per_mtok = 6.0 }]"
    )
    assert "price_steps" not in values(one_row(file, price_steps=steps))
    assert "price_steps" in values(
        one_row({**file, "output_cost_per_token_above_100k_tokens": 3e-06}, price_steps=steps)
    )


@pytest.mark.rule("amend.36")
def test_tiers_are_steps() -> None:
    """The first is the row's own price; a tier above it holds for the whole request."""
    found = values(priced_as("dashscope/qwen3-coder-flash", odd("1.110.2")))
    assert (found["input_usd_per_mtok"], found["output_usd_per_mtok"], found["cache_read_usd_per_mtok"]) == (
        0.3, 1.5, 0.08,
    )  # fmt: skip
    assert [step["above_input_tokens"] for step in found["price_steps"]] == [32_000, 128_000, 256_000]
    assert found["price_steps"][2] == {
        "above_input_tokens": 256_000, "input_usd_per_mtok": 1.6, "output_usd_per_mtok": 9.6,
        "cache_read_usd_per_mtok": 0.4,
    }  # fmt: skip


def test_a_tier_says_what_it_leaves_out() -> None:
    """Without a price of thinking it costs what the answer does, without one of cached input what the input does."""
    tiers = [
        {**PLAIN, "output_cost_per_reasoning_token": 4e-06, "cache_read_input_token_cost": 1e-07, "range": [0, 1000]},
        {"input_cost_per_token": 5e-06, "range": [1000, 2000]},
    ]
    found = values(one_row({"tiered_pricing": tiers, "output_cost_per_token": 9e-06}))
    assert found["reasoning_usd_per_mtok"] == 4.0
    assert found["price_steps"] == [
        {
            "above_input_tokens": 1000, "input_usd_per_mtok": 5.0, "output_usd_per_mtok": 9.0,
            "cache_read_usd_per_mtok": 5.0, "reasoning_usd_per_mtok": 9.0,
        }
    ]  # fmt: skip


CHEAPER = {"input_usd_per_mtok": 0.15, "output_usd_per_mtok": 0.6, "cache_read_usd_per_mtok": 0.003}


@pytest.mark.parametrize("name", ["deepseek/deepseek-v4-flash", "tencent/deepseek-v4.1-flash"])
@pytest.mark.rule("amend.36")
def test_hours_of_the_day_with_another_price_are_taken(name: str) -> None:
    """By weekday, and over midnight; the second reads its days in Shanghai, which here comes to the same."""
    found = priced_as(name, odd("1.110.2"))
    assert found.notes == ()
    assert values(found)["price_hours"] == [
        {"from": "00:00", "to": "00:00", "weekdays": [6, 7], **CHEAPER},
        {"from": "04:00", "to": "06:00", "weekdays": [1, 2, 3, 4, 5], **CHEAPER},
        {"from": "10:00", "to": "01:00", "weekdays": [1, 2, 3, 4, 5], **CHEAPER},
    ]


def test_hours_that_cannot_be_believed_are_left_out_and_said() -> None:
    """A price of 0, or hours that cannot be read."""
    for block in ({"hours_utc": "01:00-02:00", "input_cost_per_token": 0}, {"hours_utc": "at night", **PLAIN}):
        found = one_row({**PLAIN, "off_peak_pricing": block})
        assert "price_hours" not in values(found)
        assert found.notes == ("its off_peak_pricing has no hours or no price that can be believed: left out.",)


def test_a_row_has_steps_or_hours_and_the_other_is_said() -> None:
    """A catalogue with both could not be loaded."""
    both = {
        **PLAIN, "input_cost_per_token_above_200k_tokens": 2e-06,
        "off_peak_pricing": {"hours_utc": "01:00-02:00", "input_cost_per_token": 5e-07},
    }  # fmt: skip
    found = one_row(both)
    assert "price_hours" not in values(found)
    assert "price_steps" in values(found)
    assert "by the hour are left out" in found.notes[0]
    hours = '[{ from = "01:00", to = "02:00", input_usd_per_mtok = 0.7 }]'
    found = one_row({**PLAIN, "input_cost_per_token_above_200k_tokens": 2e-06}, price_hours=hours)
    assert "price_steps" not in values(found)
    assert "by length are left out" in found.notes[0]


@pytest.mark.rule("amend.36")
def test_an_alias_is_followed() -> None:
    """Along a chain too; the way is said."""
    found = priced_as("deepseek/deepseek-flash-latest", odd("1.110.2"))
    assert values(found)["input_usd_per_mtok"] == 0.3
    assert found.notes == ("deepseek/deepseek-flash-latest is an alias of deepseek/deepseek-v4-flash.",)
    raw = {"model": {"alias_of": "b"}, "b": {"alias_of": "c"}, "c": PLAIN}
    assert priced_as("model", read_prices(json.dumps(raw).encode(), "f")).notes == (
        "model is an alias of b is an alias of c.",
    )
    raw["c"] = {"alias_of": "b"}
    found = priced_as("model", read_prices(json.dumps({**raw, "other": PLAIN}).encode(), "f"))
    assert (found.left, found.notes) == (
        "broken_alias",
        ("left alone: model is an alias of b is an alias of c is an alias of b: that ends nowhere.",),
    )


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        pytest.param(
            b'{"model": {"input_cost_per_token": 1}, "model": {"input_cost_per_token": 2}}', "model", id="name"
        ),
        pytest.param(b'{"model": {"input_cost_per_token": 1, "input_cost_per_token": 2}}', "input_cost", id="key"),
    ],
)
@pytest.mark.rule("amend.36")
def test_what_stands_twice_is_left_alone(raw: bytes, want: str) -> None:
    """The last one is no better than the first."""
    found = priced_as("model", read_prices(raw, "f"))
    assert found.left == "stands_twice"
    assert want in found.notes[0]
    assert "stands twice in the file" in found.notes[0]


@pytest.mark.parametrize("name", ["gradient_ai/anthropic-claude-3.7-sonnet", "gemini/gemini-gemma-2-27b-it"])
@pytest.mark.rule("amend.36")
def test_no_window_comes_from_max_tokens(name: str) -> None:
    """It is the window, the answer, or their sum; a window of 1,024 would refuse every task."""
    found = values(priced_as(name, odd("1.80.0"), output_tokens_max=8192))
    assert found.keys() == {"input_usd_per_mtok", "output_usd_per_mtok"}


@pytest.mark.rule("amend.40")
def test_the_longest_input_is_not_the_window() -> None:
    """The file states the input alone; the window is that of the catalogue, unless the input alone is longer."""
    file = {**PLAIN, "max_input_tokens": 272_000, "max_output_tokens": 128_000}
    same = values(one_row(file, context_window=272_000, output_tokens_max=128_000))
    assert "context_window" not in same
    assert "input_tokens_max" not in same
    shorter = values(one_row(file, context_window=400_000))
    assert (shorter["input_tokens_max"], "context_window" in shorter) == (272_000, False)
    longer = values(one_row(file, context_window=200_000, output_tokens_max=100_000))
    assert (longer["context_window"], "input_tokens_max" in longer) == (272_000, False)
    moved = values(one_row(file, context_window=200_000, input_tokens_max=150_000))
    assert (moved["context_window"], moved["input_tokens_max"]) == (272_000, 272_000)


@pytest.mark.rule("amend.36")
def test_an_answer_longer_than_the_window_is_pointed_out() -> None:
    """And not taken over."""
    found = priced_as("wandb/google/gemma-4-31B-it", odd("1.110.2"), context_window=200_000, output_tokens_max=8192)
    assert values(found)["context_window"] == 262_000
    assert "output_tokens_max" not in values(found)
    (note,) = found.notes
    assert note.startswith("an answer of 262,144 tokens is longer than the window of 262,000: left out;")


def test_limits_that_are_no_counts_are_left_alone() -> None:
    """A price is taken all the same."""
    found = values(one_row({**PLAIN, "max_input_tokens": "very many", "max_output_tokens": 0.5}))
    assert found.keys() == {"input_usd_per_mtok", "output_usd_per_mtok"}


def test_what_the_file_does_not_say_is_kept_and_named() -> None:
    """It was written into the catalogue by hand; nothing is taken away."""
    steps = "[{ above_input_tokens = 5, input_usd_per_mtok = 2.0 }]"
    found = one_row(PLAIN, cache_read_usd_per_mtok=0.1, request_usd=0.01, price_steps=steps)
    assert values(found).keys() == {"input_usd_per_mtok", "output_usd_per_mtok"}
    assert found.notes == (
        "kept, because the file says nothing of it: cache_read_usd_per_mtok, request_usd, price_steps.",
    )


def test_a_model_that_its_vendor_has_given_up_is_pointed_out() -> None:
    """From the day on; its prices are taken."""
    gone = one_row({**PLAIN, "deprecation_date": "2026-12-01"})
    assert gone.found
    assert gone.notes == ("the file calls it deprecated since 2026-12-01: its vendor may refuse it.",)
    assert one_row({**PLAIN, "deprecation_date": "2026-12-02"}).notes == ()
    assert one_row({**PLAIN, "deprecation_date": "soon"}).notes == ()


def test_a_model_that_is_not_in_the_file_is_said_with_the_nearest() -> None:
    """The sentence names the newer version."""
    text = CATALOG.replace('priced_as = "claude-opus-5-5"', 'priced_as = "claude-opus-5-6"')
    found = of("opus", compare(catalog(text), rows(), TODAY))
    assert found.left == "not_in_file"
    assert found.notes == ("left alone: claude-opus-5-6 is not in the file. Did you mean claude-opus-5-5?",)
