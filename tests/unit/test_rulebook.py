"""A catalogue or a policy with mistakes stops the start, and all of them are told at once."""

from __future__ import annotations

import pytest

from streams.policy.rulebook import RulebookError, load_rulebook
from streams.shipped import shipped
from tests.builders import rulebook

CATALOG, POLICY = shipped("catalog.toml"), shipped("policy.toml")


def problems(catalog: str = CATALOG, policy: str = POLICY) -> list[str]:
    """Give what loading these texts complains about."""
    with pytest.raises(RulebookError) as caught:
        load_rulebook(catalog, policy)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_the_shipped_files_load() -> None:
    """With the nine models and the thresholds that the documents name."""
    book = load_rulebook(CATALOG, POLICY)
    tiers = {model.id: model.tier for model in book.catalog.model}
    assert tiers == {
        "opus": 3, "gpt-5": 3, "sonnet": 2, "codex": 2, "haiku": 1, "minimax": 1, "glm": 1,
        "gemini-flash": 1, "local": 1,
    }  # fmt: skip
    assert tuple(book.models["opus"].ratings.values()) == (10, 10, 10, 9, 3, 10)
    assert book.models["codex"].product != book.models["gpt-5"].product
    policy = book.policy
    assert (policy.premium.ev_percentile, policy.premium.priority_min) == (0.5, 90)
    assert (policy.lift.ev_percentile, policy.lift.quest_priority_min) == (0.9, 95)
    assert (policy.ev.window_s, policy.ev.recompute_s, policy.ev.samples_min) == (3_600, 120, 5)
    assert book.premium is book.models["opus"]


def test_what_builders_give_is_what_is_shipped() -> None:
    """So that the other tests test the shipped rules."""
    book = load_rulebook(CATALOG, POLICY)
    assert (rulebook().catalog_hash, rulebook().policy_hash) == (book.catalog_hash, book.policy_hash)


def test_an_empty_policy_is_the_default_one() -> None:
    """Thresholds have defaults; the shipped file spells them out and adds the tables by class."""
    assert load_rulebook(CATALOG, "").policy.premium == load_rulebook(CATALOG, POLICY).policy.premium


MISTAKES = {
    "a misspelt key": (
        "announcements_max = 1000",
        "anouncements_max = 1000",
        "policy.toml: service: anouncements_max is no known key. Did you mean announcements_max?",
    ),
    "a misspelt section": (
        "[premium]",
        "[premuim]",
        "policy.toml: the document: premuim is no known key. Did you mean",
    ),
    "a misspelt class": (
        "expert = 3\n",
        "expret = 3\n",
        "policy.toml: complexity_tier_min: expret is no known key. Did you mean expert?",
    ),
    "a number out of range": (
        "ev_percentile = 0.50",
        "ev_percentile = 50",
        "policy.toml: premium.ev_percentile: 50 cannot be used: ",
    ),
    "a word for a number": (
        "priority_min = 90",
        'priority_min = "90"',
        "policy.toml: premium.priority_min: '90' cannot be used: ",
    ),
}


STRATEGY_MISTAKES = {
    "a misspelt strategy": (
        'default = "objektive"',
        (
            "policy.toml: strategy.default: objektive is no shipped strategy, and no plug-in of plugins.strategies."
            " Did you mean objective?"
        ),
    ),
    "a plug-in that is not listed": (
        'default = "roundrobin"',
        "policy.toml: strategy.default: roundrobin is no shipped strategy, and no plug-in of plugins.strategies.",
    ),
    "a lane's plug-in that is not listed": (
        '[lane.code]\nstrategy = "objektive"',
        (
            "policy.toml: lane.code.strategy: objektive is no shipped strategy, and no plug-in of plugins.strategies."
            " Did you mean objective?"
        ),
    ),
    "a plug-in with the name of a shipped strategy": (
        '[plugins]\nstrategies = ["objective"]',
        "policy.toml: plugins.strategies: objective is a shipped strategy; a plug-in needs a name of its own.",
    ),
    "a rule named twice": (
        '[plugins]\nrules = ["mine", "mine"]',
        "policy.toml: plugins.rules: mine stands there twice.",
    ),
}


@pytest.mark.parametrize(("text", "want"), STRATEGY_MISTAKES.values(), ids=STRATEGY_MISTAKES.keys())
def test_a_strategy_is_a_shipped_one_or_a_plug_in_that_the_policy_lists(text: str, want: str) -> None:
    """So that a typing error does not wait for its first task."""
    assert problems(policy=text if text.startswith("[") else f"[strategy]\n{text}") == [want]


def test_a_listed_plug_in_may_be_the_strategy_of_everything_or_of_a_lane() -> None:
    """Whether it is installed is the worker's business, not the policy's."""
    policy = load_rulebook(
        CATALOG,
        '[strategy]\ndefault = "mine"\n[lane.code]\nstrategy = "yours"\n[plugins]\nstrategies = ["mine", "yours"]',
    ).policy
    assert (policy.strategy.default, policy.lane["code"].strategy) == ("mine", "yours")


@pytest.mark.parametrize(("right", "wrong", "want"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_the_policy_names_file_and_key(right: str, wrong: str, want: str) -> None:
    """And the nearest known key, where there is one."""
    assert right in POLICY
    (problem,) = problems(policy=POLICY.replace(right, wrong, 1))
    assert problem.startswith(want)


ROW_MISTAKES = {
    "a key left out": ('provider = "anthropic"\n', "", ["catalog.toml: model[opus]: provider is missing."]),
    "a misspelt key": (
        'id = "opus"\nprovider',
        'id = "opus"\nprovder',
        [
            "catalog.toml: model[opus]: provder is no known key. Did you mean provider?",
            "catalog.toml: model[opus]: provider is missing.",
        ],
    ),
    "a tier that there is not": ("tier = 3", "tier = 4", ["catalog.toml: model[opus].tier: 4 cannot be used: "]),
    "a misspelt dimension": (
        "coding = 10",
        "codng = 10",
        ["catalog.toml: model[opus].ratings: codng is no known key. Did you mean coding?"],
    ),
    "a dimension left out": (
        "{ coding = 10, ",
        "{ ",
        ["catalog.toml: model[opus].ratings: coding is missing; every model is rated on all six."],
    ),
    "a rating above 10": ("coding = 10", "coding = 11", ["catalog.toml: model[opus].ratings.coding: 11 cannot be"]),
    "a negative price": (
        "input_usd_per_mtok = 4.0",
        "input_usd_per_mtok = -4.0",
        ["catalog.toml: model[opus].input_usd_per_mtok: -4.0 cannot be used: "],
    ),
    "an id that stands twice": (
        'id = "gpt-5"',
        'id = "opus"',
        ["catalog.toml: model[opus]: this id stands there twice; ids are unique."],
    ),
}


@pytest.mark.parametrize(("right", "wrong", "want"), ROW_MISTAKES.values(), ids=ROW_MISTAKES.keys())
def test_a_mistake_in_a_row_names_the_model(right: str, wrong: str, want: list[str]) -> None:
    """So that it is found among many."""
    assert right in CATALOG
    said = problems(catalog=CATALOG.replace(right, wrong, 1))
    assert len(said) == len(want)
    assert all(one.startswith(start) for one, start in zip(said, want, strict=True))


def test_all_mistakes_of_both_files_are_told_at_once() -> None:
    """Nobody starts five times to find five mistakes."""
    said = problems(
        CATALOG.replace("tier = 3", "teir = 3", 1).replace("coding = 8", "coding = 80", 1),
        POLICY.replace("window_s", "windows_s").replace("failures_max = 5", "failures_max = 0", 1),
    )
    assert [one.split(" ")[0] for one in said] == ["catalog.toml:"] * 3 + ["policy.toml:"] * 2
    assert any("Did you mean tier?" in one for one in said)
    assert any("model[sonnet].ratings.coding" in one for one in said)
    assert any("Did you mean window_s?" in one for one in said)
    assert any("attempts.failures_max: 0 cannot be used" in one for one in said)


def test_what_is_no_toml_is_told_with_its_place() -> None:
    """Of each file."""
    said = problems("[[model", "= 1")
    assert said[0].startswith("catalog.toml: not readable as TOML: ")
    assert said[1].startswith("policy.toml: not readable as TOML: ")


def test_a_catalogue_without_models_is_a_mistake() -> None:
    """There would be nothing to choose from."""
    assert problems(catalog="") == ["catalog.toml: the document: model is missing."]


def test_files_are_named_as_the_operator_named_them() -> None:
    """Each mistake begins with the file to open."""
    with pytest.raises(RulebookError, match=r"^mine\.toml: the document: modle is no known key"):
        load_rulebook("[[modle]]", POLICY, catalog_file="mine.toml")


def test_comments_and_order_do_not_change_a_hash() -> None:
    """Values do."""
    book = load_rulebook(CATALOG, POLICY)
    head, _, rest = POLICY.partition("[premium]")
    same = load_rulebook("# a word\n" + CATALOG, "[premium]" + rest.replace(" # ", " # really: ") + "\n" + head)
    assert (same.catalog_hash, same.policy_hash) == (book.catalog_hash, book.policy_hash)
    other = load_rulebook(
        CATALOG.replace("quality = 0.72", "quality = 0.73", 1), POLICY.replace("priority_min = 90", "priority_min = 91")
    )
    assert other.catalog_hash != book.catalog_hash
    assert other.policy_hash != book.policy_hash
