"""A policy inherits what it leaves out from the shipped one, and what is recorded of it needs no file any more."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import tomlkit
from msgspec import Struct

from streams import shipped as module
from streams.core.policy.document import RulebookError
from streams.core.policy.rulebook import Policy, load_rulebook
from streams.settings import Settings
from streams.shipped import file_rulebook, policy_file, shipped, whole

CATALOG, POLICY = shipped("catalog.toml"), shipped("policy.toml")
SHIPPED = load_rulebook(CATALOG, POLICY).policy
TABLES = tomllib.loads(POLICY)


def policy(text: str) -> Policy:
    """Give the policy of a file with this text."""
    return load_rulebook(CATALOG, whole(text).text).policy


@pytest.mark.rule("amend.51")
def test_a_policy_of_one_line_keeps_the_quota_curve_the_preferences_and_the_leases() -> None:
    """Who writes a table changes that table, and nothing else."""
    mine = policy('[strategy]\ndefault = "objective"\n')
    assert mine.strategy.default == "objective"
    assert mine == msgspec.structs.replace(
        SHIPPED, strategy=msgspec.structs.replace(SHIPPED.strategy, default="objective")
    )


@pytest.mark.rule("amend.51")
def test_an_empty_policy_is_the_shipped_one() -> None:
    """Also one of comments."""
    assert policy("") == policy("# nothing yet\n") == SHIPPED


@pytest.mark.rule("amend.51")
def test_a_map_or_list_that_is_written_stands_alone() -> None:
    """Nothing is added to it, so that an empty one is how to have none."""
    mine = policy(
        "[leases.by_complexity_s]\nexpert = 9.0\n[strategy.preference]\n[quota]\nstep = []\n"
        '[floor.by_role]\ncoder = "opus"'
    )
    assert mine.leases.by_complexity_s == {"expert": 9.0}
    assert mine.leases.default_s == SHIPPED.leases.default_s
    assert mine.strategy.preference == {}
    assert mine.quota.step == ()
    assert mine.floor.by_role == {"coder": "opus"}


@pytest.mark.rule("amend.51")
def test_what_is_left_out_is_listed_by_its_key() -> None:
    """A whole section by its name, a key of a section that is there by both."""
    found = whole("[premium]\nev_percentile = 0.6\n[score.weights]\nquality = { cost = 1, speed = 1, quality = 1 }\n")
    assert {"quota", "premium.priority_min", "score.tie_share", "score.weights.balanced"} <= set(found.inherited)
    assert {"premium", "premium.ev_percentile", "score", "score.weights.quality"}.isdisjoint(found.inherited)


def test_a_whole_policy_keeps_its_text() -> None:
    """With its comments, into the journal."""
    assert whole(POLICY) == module.PolicyFile(text=POLICY)


def test_a_policy_with_mistakes_keeps_its_text() -> None:
    """The mistakes are reported by who loads it, with the keys as the person wrote them."""
    for text in ("[premum]\n", "[premium\n", "premium = 3\n", "[premium]\npriority_min = 900\n"):
        assert whole(text) == module.PolicyFile(text=text)


@pytest.mark.rule("amend.51")
def test_an_upgrade_does_not_change_what_a_recorded_policy_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text that is activated and recorded says everything itself."""
    recorded = whole("[premium]\nev_percentile = 0.6\n").text
    before = load_rulebook(CATALOG, recorded, recorded=True)
    newer = POLICY.replace("priority_min = 90", "priority_min = 50").replace("failures_max = 5", "failures_max = 9")
    assert newer != POLICY
    monkeypatch.setattr(module, "shipped", lambda _name: newer)
    assert load_rulebook(CATALOG, recorded, recorded=True).policy_hash == before.policy_hash
    assert whole(recorded).text == recorded


def thresholds(section: Struct, path: str = "") -> Iterator[tuple[str, object]]:
    """Give every value of a policy that is no map and no list, by its key."""
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, Struct):
            yield from thresholds(value, f"{path}{name}.")
        elif not isinstance(value, dict | tuple):
            yield f"{path}{name}", value


@pytest.mark.rule("amend.51")
def test_every_threshold_is_shipped_as_it_is_when_nobody_says_it() -> None:
    """A policy that was recorded before a threshold existed is decided with the default of the code."""
    assert dict(thresholds(SHIPPED)) == dict(thresholds(Policy()))


@pytest.mark.rule("amend.51")
def test_the_shipped_policy_says_every_threshold() -> None:
    """So that a policy that was made whole depends on no default of the code either."""
    said = {key: value for section, table in TABLES.items() for key, value in _said(section, table)}
    assert {key for key, value in thresholds(SHIPPED) if value is not None} - said.keys() == set()


def _said(key: str, value: object) -> Iterator[tuple[str, object]]:
    yield key, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _said(f"{key}.{name}", inner)


#: Sections of the shipped policy, and their keys; not those of maps, which stand alone.
SECTIONS = [*TABLES, *(f"{name}.{key}" for name in TABLES for key in TABLES[name] if name != "complexity_tier_min")]


@pytest.mark.parametrize("left_out", SECTIONS)
def test_whatever_is_left_out_of_the_shipped_policy_comes_back(left_out: str) -> None:
    """And exactly that is listed."""
    document = tomllib.loads(POLICY)
    section, _, key = left_out.partition(".")
    if key:
        del document[section][key]
    else:
        del document[section]
    found = whole(tomlkit.dumps(document))
    assert load_rulebook(CATALOG, found.text).policy == SHIPPED
    assert found.inherited == (left_out,)


@pytest.mark.rule("amend.51")
def test_inherited_rows_about_models_that_the_catalogue_lacks_are_one_sentence_a_table() -> None:
    """Who brings models of their own learns which tables to write, and how to have none."""
    catalog = CATALOG.replace('id = "codex"', 'id = "kodex"').replace('id = "opus"', 'id = "opus-9"')
    catalog = catalog.replace('product = "claude"', 'product = "anthropic"')
    mine = whole("[premium]\nev_percentile = 0.6\n")
    with pytest.raises(RulebookError) as refused:
        load_rulebook(catalog, mine.text, inherited=mine.inherited)
    preference, quota = refused.value.problems
    assert preference == (
        "policy.toml: [strategy] preference is left out, so it is as shipped, and names what is no model of the "
        "catalogue: opus, codex. Write it for your catalogue, or have none: [strategy] preference = {}"
    )
    assert quota == (
        "policy.toml: [quota] step is left out, so it is as shipped, and names what is no product of the catalogue: "
        "claude. Write it for your catalogue, or have none: [quota] step = []"
    )


def test_the_settings_name_the_files(tmp_path: Path) -> None:
    """A short policy decides as a whole one, and its mistakes name its file."""
    file = tmp_path / "short.toml"
    file.write_text("[attempts]\nfailures_max = 3\n")
    settings = Settings(policy=str(file))
    assert policy_file(settings).inherited[:2] == ("service", "ev")
    assert file_rulebook(settings).policy.attempts.failures_max == 3
    assert file_rulebook(settings).policy.quota == SHIPPED.quota
    file.write_text("[atempts]\n")
    with pytest.raises(RulebookError, match=r"short\.toml: the document: atempts is no known key"):
        file_rulebook(settings)
