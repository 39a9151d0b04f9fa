"""New values in the text of a catalogue: what stays as it was, and what is refused rather than harmed."""

from __future__ import annotations

import datetime as dt
import difflib

import pytest

from streams.core.policy.catalog import Catalog
from streams.core.policy.document import read
from streams.operate.catalog_text import LayoutError, rewrite
from streams.operate.prices import Change, Refreshed
from streams.shipped import shipped

CATALOG = shipped("catalog.toml")
TODAY = dt.date(2026, 12, 1)
SMALL = """# My models.
[[model]] # the only one
id = "m"
input_usd_per_mtok = 4.0 # by contract
context_window = 1_000

[model.ratings]
coding = 1
"""
STEPS = [
    {"above_input_tokens": 100_000, "input_usd_per_mtok": 5.0},
    {"above_input_tokens": 200_000, "input_usd_per_mtok": 6.0},
]


def refreshed(*changes: Change, model: str = "m") -> list[Refreshed]:
    """Give a model with those changes."""
    return [Refreshed(model=model, priced_as="x", changes=changes)]


def models(text: str) -> dict[str, object]:
    """Read a catalogue by model."""
    return {model.id: model for model in read(text, Catalog, "catalog.toml").model}


def test_only_the_values_change() -> None:
    """Comments, order and the grouping of digits stay; date and source are those of the file."""
    changes = (Change("input_usd_per_mtok", 4.0, 5.0), Change("context_window", 1_000_000, 2_000_000))
    written = rewrite(CATALOG, refreshed(*changes, model="opus"), TODAY, "a price file")
    lines = difflib.ndiff(CATALOG.splitlines(), written.splitlines())
    told = [line for line in lines if line[0] in "+-" and "price_source" not in line and "priced_at" not in line]
    assert told == [
        "- input_usd_per_mtok = 4.0", "+ input_usd_per_mtok = 5.0",
        "- context_window = 1_000_000", "+ context_window = 2_000_000",
    ]  # fmt: skip
    before, after = models(CATALOG), models(written)
    assert before.pop("opus") != after.pop("opus")
    assert before == after


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_line_ends_stay_as_they_are(ends: str) -> None:
    """Those of new lines too, and of lists that take several."""
    written = rewrite(
        SMALL.replace("\n", ends), refreshed(Change("price_steps", None, STEPS), Change("a", None, 1.5)), TODAY, "x"
    )
    assert written.count("\n") == written.count(ends)
    assert (
        written.replace(ends, "\n")
        == """# My models.
[[model]] # the only one
id = "m"
input_usd_per_mtok = 4.0 # by contract
context_window = 1_000
price_steps = [
  { above_input_tokens = 100_000, input_usd_per_mtok = 5.0 },
  { above_input_tokens = 200_000, input_usd_per_mtok = 6.0 },
]
a = 1.5
priced_at = 2026-12-01
price_source = "x"

[model.ratings]
coding = 1
"""
    )


def test_a_file_with_both_line_ends_keeps_each() -> None:
    """New lines have those that most have."""
    mixed = '[[model]]\r\nid = "m"\r\na = 1\nb = 2\r\n'
    assert rewrite(mixed, refreshed(Change("a", 1, 3)), TODAY, "x") == (
        '[[model]]\r\nid = "m"\r\na = 3\nb = 2\r\npriced_at = 2026-12-01\r\nprice_source = "x"\r\n'
    )


def test_models_that_are_written_as_inline_tables_are_rewritten() -> None:
    """An array of tables in one line is a catalogue too."""
    text = 'model = [{ id = "m", a = 1.0 }, # one\n  { id = "n" }]\n'
    written = rewrite(text, refreshed(Change("a", 1.0, 2.0), Change("price_steps", None, STEPS)), TODAY, "x")
    assert written == (
        'model = [{ id = "m", a = 2.0, price_steps = [{ above_input_tokens = 100_000, input_usd_per_mtok = 5.0 }, '
        "{ above_input_tokens = 200_000, input_usd_per_mtok = 6.0 }], priced_at = 2026-12-01, "
        'price_source = "x"}, # one\n  { id = "n" }]\n'
    )


def test_steps_that_are_tables_of_their_own_become_one_list() -> None:
    """What follows them stays."""
    text = '[[model]]\nid = "m"\n[[model.price_steps]]\nabove_input_tokens = 1\n\n[[model]]\nid = "n"\n'
    written = rewrite(text, refreshed(Change("price_steps", [], STEPS[:1])), TODAY, "x")
    assert written == (
        '[[model]]\nid = "m"\nprice_steps = [{ above_input_tokens = 100_000, input_usd_per_mtok = 5.0 }]\n'
        'priced_at = 2026-12-01\nprice_source = "x"\n[[model]]\nid = "n"\n'
    )


def test_what_stands_there_already_is_not_written_again() -> None:
    """A second refresh with the same file changes no byte."""
    once = rewrite(SMALL, refreshed(Change("price_steps", None, STEPS)), TODAY, "x")
    assert rewrite(once, refreshed(), TODAY, "x") == once


def test_a_source_may_hold_what_a_text_can() -> None:
    """Quotes and line ends are written so that they are read again."""
    written = rewrite(SMALL, refreshed(), TODAY, 'a "file"\nof ours')
    assert 'price_source = "a \\"file\\"\\nof ours"' in written


def test_a_layout_that_would_come_to_harm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the library does to it: the result is read again and compared before it is given."""
    monkeypatch.setattr("tomlkit.dumps", lambda _: SMALL.replace("coding = 1", "coding = 2"))
    with pytest.raises(LayoutError, match="Nothing was written"):
        rewrite(SMALL, refreshed(Change("a", None, 1.5)), TODAY, "x")
