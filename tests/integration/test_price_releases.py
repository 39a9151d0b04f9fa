"""Every row of whole price files of LiteLLM, as if it stood in the catalogue: taken as meant, or left for a reason."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct

from streams.core.policy.catalog import Catalog, Model
from streams.core.policy.document import read
from streams.core.policy.prices import Prices
from streams.operate.catalog_text import rewrite
from streams.operate.price_file import read_prices
from streams.operate.prices import Refreshed, compare
from tests.support.optional_parts import skip_without
from tests.support.price_releases import RELEASES, MissingPriceFile, price_file

pytestmark = pytest.mark.prices

PAGE: Final = Path(__file__).parents[2] / "docs" / "prices.md"
#: The heading above its table of counts.
HEADING: Final = "## Whole releases"
TODAY: Final = dt.date(2026, 11, 29)
#: As many models as a catalogue may have at most.
AT_ONCE: Final = 1000
#: A window and an answer that every row of the file differs from.
UNSET: Final = 1
MODEL: Final = """
[[model]]
id = "m{number}"
provider = "p"
product = "q"
tier = 1
ratings = {{ coding = 1, safety = 1, reasoning = 1, analysis = 1, speed = 1, instruction_following = 1 }}
priced_as = {name}
context_window = {unset}
output_tokens_max = {unset}
"""


Row = Mapping[str, Any]


class Outcome(Struct, frozen=True):
    """What became of a row of the file: the row itself, what was said, and the model as it stands afterwards."""

    row: Row
    said: Refreshed
    model: Model


@cache
def outcomes(release: str) -> tuple[Outcome, ...]:
    """Refresh a catalogue that has each row of a release, and write it."""
    try:
        raw = price_file(release).read_bytes()
    except MissingPriceFile as missing:
        skip_without("prices", str(missing))
    prices = read_prices(raw, release)
    rows: dict[str, Row] = json.loads(raw)
    found: list[Outcome] = []
    for start in range(0, len(rows), AT_ONCE):
        names = list(rows)[start : start + AT_ONCE]
        text = "".join(MODEL.format(number=i, name=json.dumps(name), unset=UNSET) for i, name in enumerate(names))
        said = compare(read(text, Catalog, "before"), prices, TODAY)
        written = read(rewrite(text, said, TODAY, release), Catalog, "after")
        assert not any(one.changes for one in compare(written, prices, TODAY)), "a second refresh has nothing to change"
        found += map(Outcome, (followed(rows, name) for name in names), said, written.model)
    return tuple(found)


def followed(rows: Mapping[str, Row], name: str) -> Row:
    """Give the row behind an alias; the files have no chains and no loops."""
    return rows[rows[name].get("alias_of", name)]


@pytest.mark.parametrize("release", RELEASES)
def test_every_row_is_taken_or_has_a_reason_and_the_page_counts_them(release: str) -> None:
    """The table of docs/prices.md has a column a release; a reason that it does not name does not occur."""
    section = PAGE.read_text().split(HEADING)[1].split("\n## ")[0]
    header, _, *lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    column = header.index(release)
    stated = {line[0].split("`")[1]: int(line[column].replace(",", "")) for line in lines}
    counted: Counter[str] = Counter(one.said.left or "taken" for one in outcomes(release))
    counted["rows"] = counted.total()
    counted["price_steps"] = sum(bool(one.model.price_steps) for one in outcomes(release))
    counted["price_hours"] = sum(bool(one.model.price_hours) for one in outcomes(release))
    assert stated == {name: counted[name] for name in stated}
    assert counted.keys() <= stated.keys()
    for one in outcomes(release):
        assert bool(one.said.left) == any(note.startswith("left alone: ") for note in one.said.notes)


@pytest.mark.parametrize("release", RELEASES)
def test_no_row_makes_a_price_that_no_vendor_charges(release: str) -> None:
    """No answer for nothing beside a real price, nothing above $500, no window out of `max_tokens`, all loadable."""
    for one in outcomes(release):
        model, row = one.model, one.row
        assert list(model.mistakes()) == []
        assert model.context_window in (UNSET, row.get("max_input_tokens"))
        assert model.output_tokens_max in (UNSET, row.get("max_output_tokens"))
        if one.said.left is not None:
            assert (model.input_usd_per_mtok, model.output_usd_per_mtok, model.priced_at) == (None, None, None)
            continue
        for prices in (model, *model.price_steps, *model.price_hours):
            known = [getattr(prices, key) for key in Prices.__struct_fields__ if getattr(prices, key) is not None]
            assert all(0 < price <= 500 for price in known), model.priced_as
        assert model.input_usd_per_mtok
        assert model.output_usd_per_mtok


@pytest.mark.parametrize("release", RELEASES)
def test_every_row_that_is_taken_costs_what_the_file_says(release: str) -> None:
    """Of input, output, cached input and thinking: below and above every threshold, in every half hour of a week."""
    for one in outcomes(release):
        if one.said.left is None:
            for length in lengths(one.row):
                for minute in range(0, WEEK_MIN, 30) if "off_peak_pricing" in one.row else (0,):
                    want = rates(one.row, length, MONDAY + dt.timedelta(minutes=minute))
                    assert held(one.model, length, minute) == pytest.approx(want, rel=1e-9), (
                        one.model.priced_as,
                        length,
                    )


# The file's meaning once more, as plainly as can be, by LiteLLM's own calculation.

NAMES: Final = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "output_cost_per_reasoning_token",
)
MONDAY: Final = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
WEEK_MIN: Final = 7 * 24 * 60


def thresholds(row: Row) -> dict[int, dict[str, float]]:
    """Give the prices above each length."""
    found: dict[int, dict[str, float]] = {}
    for key, value in row.items():
        for name in NAMES:
            if value and (above := re.fullmatch(f"{name}_above_([0-9]+)k_tokens", key)):
                found.setdefault(int(above[1]) * 1000, {})[name] = value
    return dict(sorted(found.items()))


def lengths(row: Row) -> set[int]:
    """Give one token, and what lies around every length at which a price changes."""
    edges = {*thresholds(row), *(int(tier["range"][0]) for tier in row.get("tiered_pricing", ()))}
    return {1, *(edge + more for edge in edges if edge for more in (-1, 0, 1))}


def rates(row: Row, length: int, at: dt.datetime) -> list[float]:
    """Give dollars per million tokens of input, output, cached input and thinking."""
    found = {name: row[name] for name in NAMES if row.get(name)}
    if "tiered_pricing" in row:
        found |= next(tier for tier in reversed(row["tiered_pricing"]) if tier["range"][0] < length)
    else:
        for above, prices in thresholds(row).items():
            if length > above or (length == above and row["litellm_provider"] == "xai"):
                found |= prices
    if "off_peak_pricing" in row and is_off_peak(row["off_peak_pricing"], at):
        found |= row["off_peak_pricing"]
    found.setdefault("cache_read_input_token_cost", found["input_cost_per_token"])
    found.setdefault("output_cost_per_reasoning_token", found["output_cost_per_token"])
    return [found[name] * 1e6 for name in NAMES]


def is_off_peak(block: Row, at: dt.datetime) -> bool:
    """Say whether a moment is in one of the windows."""
    day = at.astimezone(ZoneInfo(block.get("weekday_timezone", "UTC"))).isoweekday()
    clock = f"{at:%H:%M}"
    for window in block["windows"]:
        spans = [window["hours_utc"]] if isinstance(window["hours_utc"], str) else window["hours_utc"]
        for start, end in (span.split("-") for span in spans):
            if day in window["weekdays"] and (start <= clock < end if start < end else clock >= start or clock < end):
                return True
    return False


def held(model: Model, length: int, minute: int) -> list[float | None]:
    """Give the same of the catalogue's row."""
    prices = {key: getattr(model, key) for key in Prices.__struct_fields__}
    for step in model.price_steps:
        if length > step.above_input_tokens:
            prices |= {key: price for key in prices if (price := getattr(step, key)) is not None}
    for hours in model.price_hours:
        if any(first <= minute < after for first, after in hours.minutes()):
            prices |= {key: price for key in prices if (price := getattr(hours, key)) is not None}
    spent, said, cached, thought = prices.values()
    return [spent, said, spent if cached is None else cached, said if thought is None else thought]
