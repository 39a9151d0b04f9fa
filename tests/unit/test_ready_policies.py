"""`deploy/policies` has policies to start from: each is short, says for whom it is, and has golden histories."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

from streams.core.policy.rulebook import load_rulebook
from streams.plugins.advisor import Plugins
from streams.shipped import ready_policies, shipped, whole

ROOT = Path(__file__).parents[2]
READY = ready_policies()
HISTORIES = sorted((ROOT / "tests" / "golden" / "policies").glob("*.yaml"))


def test_the_ready_policies_are_the_files_of_the_folder() -> None:
    """Those that the documents of routing begin with."""
    assert list(READY) == sorted(file.stem for file in (ROOT / "deploy" / "policies").iterdir())
    assert set(READY) >= {"content-team", "cross-account", "objective", "subscriptions"}


@pytest.mark.parametrize("name", READY)
def test_a_ready_policy_has_no_mistakes(name: str) -> None:
    """As `slotwise policy check` finds: with the shipped catalogue and no plug-in."""
    ready = whole(READY[name])
    book = load_rulebook(shipped("catalog.toml"), ready.text, inherited=ready.inherited)
    Plugins().check(book)
    assert book.policy_hash != load_rulebook(shipped("catalog.toml"), shipped("policy.toml")).policy_hash


@pytest.mark.parametrize("name", READY)
def test_a_ready_policy_is_short_and_begins_with_whom_it_is_for(name: str) -> None:
    """It leaves out what it does not change, and a head of comments ends before the first table."""
    head, _, rest = READY[name].partition("\n\n")
    assert head.startswith("# For ")
    assert all(row.startswith("#") for row in head.splitlines())
    assert rest.startswith("[")
    whole_text = tomllib.loads(shipped("policy.toml"))
    assert len(tomllib.loads(READY[name])) < len(whole_text) / 2
    assert len(READY[name].splitlines()) < 45


@pytest.mark.parametrize("name", READY)
def test_a_ready_policy_has_golden_histories(name: str) -> None:
    """What it decides is written by hand."""
    used = [yaml.safe_load(file.read_text()).get("rulebook", {}).get("policy_file") for file in HISTORIES]
    assert f"{name}.toml" in used


def test_a_wheel_carries_the_ready_policies() -> None:
    """As it does the shipped one; `streams.shipped` finds them inside the package."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["force-include"]["deploy/policies"] == "streams/deploy/policies"
