"""Two policies or two catalogues compared: one line a value, and nothing but what differs."""

from __future__ import annotations

from msgspec.structs import replace

from streams.core.policy.catalog import Catalog
from streams.core.policy.difference import Difference, differences, values
from streams.core.policy.document import read
from streams.core.policy.rulebook import Policy
from streams.shipped import shipped

POLICY = read(shipped("policy.toml"), Policy, "policy.toml")
CATALOG = read(shipped("catalog.toml"), Catalog, "catalog.toml")


def test_nothing_differs_from_itself() -> None:
    """Comments and order do not matter."""
    assert differences(POLICY, POLICY) == ()
    assert differences(CATALOG, CATALOG) == ()


def test_a_value_is_named_by_its_section() -> None:
    """A key is written as `premium.ev_percentile`."""
    other = replace(POLICY, premium=replace(POLICY.premium, ev_percentile=0.6))
    assert differences(POLICY, other) == (Difference("premium.ev_percentile", 0.5, 0.6),)


def test_values_left_at_their_default_are_compared_too() -> None:
    """A missing key has its default value."""
    assert differences(Policy(), replace(Policy(), premium=POLICY.premium)) == ()
    assert values(Policy())["premium.ev_percentile"] == 0.5


def test_a_row_is_named_by_its_id_so_that_one_more_shifts_nothing() -> None:
    """A model added in front differs by its own values, none of the others do."""
    more = replace(CATALOG, model=(replace(CATALOG.model[0], id="new"), *CATALOG.model))
    found = differences(CATALOG, more)
    assert {one.key.partition(".")[0] for one in found} == {"model[new]"}
    assert Difference("model[new].tier", None, 3) in found


def test_rows_without_an_id_are_numbered() -> None:
    """The steps of the quota's curve count from 1."""
    steps = POLICY.quota.step
    other = replace(POLICY, quota=replace(POLICY.quota, step=(replace(steps[0], from_share=0.5), *steps[1:])))
    assert [one.key for one in differences(POLICY, other)] == ["quota.step[1].from_share"]
