"""Prices out of LiteLLM's file: what is believed, what is left alone, and what a catalogue's text keeps."""

from __future__ import annotations

import datetime as dt
import difflib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from streams.core.policy.catalog import Catalog
from streams.core.policy.document import read
from streams.operate.prices import Change, PriceFileError, Refreshed, compare, read_prices, rewrite
from streams.shipped import shipped

SLICE = Path(__file__).parents[1] / "prices" / "litellm_slice.json"
CATALOG = shipped("catalog.toml")
TODAY = dt.date(2026, 12, 1)


def rows(**changed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the slice, with some values of the row that opus is priced as changed."""
    found = read_prices(SLICE.read_bytes(), "slice")
    for name, values in changed.items():
        found[name.replace("_", "-")] |= values
    return found


def of(model: str, found: tuple[Refreshed, ...]) -> Refreshed:
    """Find what was said of a model."""
    return next(one for one in found if one.model == model)


def catalog(text: str = CATALOG) -> Catalog:
    """Read a catalogue."""
    return read(text, Catalog, "catalog.toml")


def test_the_shipped_catalogue_has_the_prices_and_windows_of_its_source() -> None:
    """Every model that the file prices has no value that differs; the local one is said and left alone."""
    found = compare(catalog(), rows())
    assert [one.model for one in found if one.changes] == []
    assert [one.model for one in found if not one.found] == ["local"]


def test_a_price_a_token_becomes_one_a_million_without_a_rounding_error() -> None:
    """75 billionths of a dollar a token are 0.075 dollars a million, not 0.07500000000000001."""
    raw = b'{"claude-opus-5-5": {"input_cost_per_token": 7.5e-08, "output_cost_per_token": 0.00002}}'
    (change, *_) = of("opus", compare(catalog(), read_prices(raw, "f"))).changes
    assert change == Change("input_usd_per_mtok", 4.0, 0.075)


def test_windows_come_from_max_tokens_where_nothing_better_is_said() -> None:
    """An older row has `max_tokens` only."""
    row = {
        "input_cost_per_token": 4e-06, "output_cost_per_token": 2e-05, "cache_read_input_token_cost": 2e-07,
        "max_tokens": 4096,
    }  # fmt: skip
    found = of("opus", compare(catalog(), read_prices(json.dumps({"claude-opus-5-5": row}).encode(), "f")))
    assert found.changes == (Change("context_window", 1_000_000, 4096), Change("output_tokens_max", 128_000, 4096))


class Left(Struct, frozen=True, kw_only=True):
    """A row that nothing is taken from."""

    values: dict[str, Any]
    want: str


LEFT = {
    "a price of 0, which may mean unknown": Left(
        values={"input_cost_per_token": 0, "output_cost_per_token": Decimal("0.0")}, want="may mean unknown"
    ),
    "no price": Left(values={"input_cost_per_token": None}, want="no price"),
    "a price that is text": Left(values={"output_cost_per_token": "cheap"}, want="no price"),
    "a negative price": Left(values={"input_cost_per_token": Decimal(-1)}, want="no price"),
    "an image model": Left(values={"mode": "image_generation"}, want="of mode image_generation"),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=situation) for situation, case in LEFT.items()])
def test_a_row_that_says_no_usable_price_is_left_alone(case: Left) -> None:
    """What is not known stays as it is, and the reason is reported."""
    found = of("opus", compare(catalog(), rows(claude_opus_5_5=case.values)))
    assert not found.found
    assert found.changes == ()
    assert found.note is not None
    assert case.want in found.note


def test_windows_that_are_no_counts_are_left_alone() -> None:
    """A price is taken all the same."""
    odd: dict[str, Any] = {"max_input_tokens": "very many", "max_output_tokens": Decimal("0.5")}
    found = of("opus", compare(catalog(), rows(claude_opus_5_5=odd)))
    assert found.found
    assert found.changes == ()


def test_a_model_that_is_not_in_the_file_is_said_with_the_nearest() -> None:
    """The sentence names the newer version."""
    text = CATALOG.replace('priced_as = "claude-opus-5-5"', 'priced_as = "claude-opus-5-6"')
    note = of("opus", compare(catalog(text), rows())).note
    assert note == "left alone: claude-opus-5-6 is not in the file. Did you mean claude-opus-5-5?"


def test_a_price_that_rises_with_the_length_is_pointed_out() -> None:
    """The catalogue has one price a model; the note warns of long prompts."""
    note = of("gpt-5", compare(catalog(), rows())).note
    assert note == "above 272k tokens the input costs $8; the catalogue has one price."


def test_rewriting_changes_those_values_and_keeps_all_else() -> None:
    """Comments, order and the grouping of digits stay; date and source are those of the file."""
    changed = rows(claude_opus_5_5={"input_cost_per_token": Decimal("0.000005"), "max_input_tokens": 2_000_000})
    written = rewrite(CATALOG, compare(catalog(), changed), TODAY, "a price file")
    lines = difflib.ndiff(CATALOG.splitlines(), written.splitlines())
    told = [line for line in lines if line[0] in "+-" and "price_source" not in line and "priced_at" not in line]
    assert told == [
        "- input_usd_per_mtok = 4.0", "+ input_usd_per_mtok = 5.0",
        "- context_window = 1_000_000", "+ context_window = 2_000_000",
    ]  # fmt: skip
    models = {model.id: model for model in catalog(written).model}
    assert {model.priced_at for name, model in models.items() if name != "local"} == {TODAY}
    assert models["local"] == {model.id: model for model in catalog().model}["local"]


def test_a_value_that_the_catalogue_lacks_is_added() -> None:
    """A missing price is added to the row."""
    text = CATALOG.replace("cache_read_usd_per_mtok = 0.2\n", "")
    found = compare(catalog(text), rows())
    assert of("opus", found).changes == (Change("cache_read_usd_per_mtok", None, 0.2),)
    assert catalog(rewrite(text, found, TODAY, "a price file")).model[0].cache_read_usd_per_mtok == 0.2


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        pytest.param(b"model = 1", "not readable as JSON", id="no JSON"),
        pytest.param(b"[]", "not LiteLLM's price file", id="a list"),
        pytest.param(b'{"opus": 4}', "not LiteLLM's price file", id="no rows"),
        pytest.param(b'{"opus": {"price": 4}}', "not LiteLLM's price file", id="rows of something else"),
    ],
)
def test_another_file_is_refused(raw: bytes, want: str) -> None:
    """Nothing is compared with what is no price file."""
    with pytest.raises(PriceFileError, match=want):
        read_prices(raw, "some.json")
