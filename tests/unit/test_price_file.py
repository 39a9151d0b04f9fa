"""Reading LiteLLM's price file: what is one, in which encoding, and what stands there twice."""

from __future__ import annotations

import pytest

from streams.operate.price_file import PriceFileError, read_prices

ROW = b'{"opus": {"input_cost_per_token": 4e-06, "output_cost_per_token": 2e-05}}'

OTHERS = {
    "no JSON": (b"model = 1", "not readable as JSON"),
    "not a number": (b'{"opus": {"input_cost_per_token": NaN}}', "not readable as JSON: NaN is no number"),
    "an exponent beyond all reason": (
        b'{"opus": {"input_cost_per_token": 1e99999999999999999999}}', "not readable as JSON"
    ),
    "more digits than a number has": (b'{"opus": ' + b"9" * 5000 + b"}", "not readable as JSON"),
    "nested without end": (b"[" * 200_000, "not readable as JSON: it is nested too deeply"),
    "a list": (b"[]", "not LiteLLM's price file"),
    "no rows": (b'{"opus": 4}', "not LiteLLM's price file"),
    "rows of something else": (b'{"opus": {"price": 4}}', "not LiteLLM's price file"),
    "empty": (b"", "not readable as JSON"),
    "Latin-1": ('{"modèle": 1}'.encode("latin-1"), "is not UTF-8, as JSON is: save it as UTF-8"),
    "UTF-16": (ROW.decode().encode("utf-16"), "is not UTF-8, as JSON is: save it as UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "want"), [pytest.param(*case, id=name) for name, case in OTHERS.items()])
def test_another_file_is_refused_in_one_sentence(raw: bytes, want: str) -> None:
    """Nothing is compared with what is no price file."""
    with pytest.raises(PriceFileError, match=want):
        read_prices(raw, "some.json")


def test_a_byte_order_mark_is_passed_over() -> None:
    """Editors of one system put it there."""
    assert read_prices(b"\xef\xbb\xbf" + ROW, "f").rows.keys() == {"opus"}


def test_a_name_and_a_key_that_stand_twice_are_remembered() -> None:
    """At any depth of a row, and only for that row."""
    raw = b"""{
      "opus": {"input_cost_per_token": 1e-06}, "opus": {"input_cost_per_token": 2e-06},
      "haiku": {"input_cost_per_token": 1e-06, "input_cost_per_token": 5e-06},
      "glm": {"input_cost_per_token": 1e-06, "tiered_pricing": [{"range": [0, 1], "range": [0, 2]}]},
      "codex": {"input_cost_per_token": 1e-06}
    }"""
    found = read_prices(raw, "f")
    assert found.names_twice == {"opus"}
    assert found.keys_twice == {"haiku": ("input_cost_per_token",), "glm": ("range",)}
