"""A catalogue or a policy with mistakes stops the start, and all of them are reported together."""

from __future__ import annotations

import tomllib

import msgspec
import pytest

from streams.core.policy.rulebook import Policy, RulebookError, load_rulebook
from streams.shipped import shipped
from tests.support.builders import rulebook

CATALOG, POLICY = shipped("catalog.toml"), shipped("policy.toml")


def problems(catalog: str = CATALOG, policy: str = POLICY) -> list[str]:
    """Give what loading these texts complains about."""
    with pytest.raises(RulebookError) as caught:
        load_rulebook(catalog, policy)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


@pytest.mark.rule("catalogue.rows")
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


@pytest.mark.rule("policy.lane")
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


@pytest.mark.rule("catalogue.rows")
@pytest.mark.parametrize(("right", "wrong", "want"), ROW_MISTAKES.values(), ids=ROW_MISTAKES.keys())
def test_a_mistake_in_a_row_names_the_model(right: str, wrong: str, want: list[str]) -> None:
    """So that it is found among many."""
    assert right in CATALOG
    said = problems(catalog=CATALOG.replace(right, wrong, 1))
    assert len(said) == len(want)
    assert all(one.startswith(start) for one, start in zip(said, want, strict=True))


#: Lines of the row of opus, and what is wrong with them.
PRICE_MISTAKES = {
    "steps that do not ascend": (
        [
            "price_steps = [{ above_input_tokens = 200_000, input_usd_per_mtok = 8 },",
            "               { above_input_tokens = 100_000, output_usd_per_mtok = 9 }]",
        ],
        ["price_steps: above_input_tokens 100,000 stands after 200,000; the steps ascend"],
    ),
    "a step that stands twice": (
        [
            "price_steps = [{ above_input_tokens = 9, input_usd_per_mtok = 8 },",
            "               { above_input_tokens = 9, output_usd_per_mtok = 9 }]",
        ],
        ["price_steps: above_input_tokens 9 stands after 9; the steps ascend"],
    ),
    "a step and hours without a price": (
        ["price_steps = [{ above_input_tokens = 9 }]", 'price_hours = [{ from = "00:00", to = "01:00" }]'],
        [
            "price_steps[1]: no price stands there.",
            "price_hours[1]: no price stands there.",
            "price_hours: a row has price_steps or price_hours, not both",
        ],
    ),
    "hours that are no hours": (
        [
            'price_hours = [{ from = "24:00", to = "01:00", input_usd_per_mtok = 1 },',
            '               { from = "01:00", to = "2:30", input_usd_per_mtok = 1 }]',
        ],
        [
            'price_hours[1]: 24:00 is no time of day; write it as "16:30", in UTC.',
            'price_hours[2]: 2:30 is no time of day; write it as "16:30", in UTC.',
        ],
    ),
    "hours that overlap after midnight": (
        [
            'price_hours = [{ from = "16:30", to = "00:30", input_usd_per_mtok = 1 },',
            '               { from = "00:29", to = "01:00", input_usd_per_mtok = 1 }]',
        ],
        ["price_hours[2]: it overlaps price_hours[1]; at each moment one price holds."],
    ),
    "no day of the week": (
        ['price_hours = [{ from = "00:00", to = "00:00", weekdays = [0], input_usd_per_mtok = 1 }]'],
        ["price_hours[1].weekdays[1]: 0 cannot be used: "],
    ),
    "more input than the window holds": (
        ["input_tokens_max = 1_000_001"],
        ["input_tokens_max: 1,000,001 is more than context_window, 1,000,000"],
    ),
}


@pytest.mark.rule("catalogue.rows")
@pytest.mark.parametrize(("lines", "want"), PRICE_MISTAKES.values(), ids=PRICE_MISTAKES.keys())
def test_a_mistake_in_the_prices_names_the_step_or_the_hours(lines: list[str], want: list[str]) -> None:
    """And what would be right."""
    said = problems(catalog=CATALOG.replace('id = "opus"', "\n".join(['id = "opus"', *lines]), 1))
    assert len(said) == len(want)
    assert all(one.startswith(f"catalog.toml: model[opus].{start}") for one, start in zip(said, want, strict=True))


def test_prices_at_hours_that_meet_but_do_not_overlap_are_no_mistake() -> None:
    """As a vendor with cheap nights and weekends has them."""
    hours = (
        '{ from = "00:00", to = "01:00", weekdays = [1, 2, 3, 4, 5], input_usd_per_mtok = 1 }, '
        '{ from = "10:00", to = "00:00", weekdays = [1, 2, 3, 4, 5], input_usd_per_mtok = 1 }, '
        '{ from = "00:00", to = "00:00", weekdays = [6, 7], input_usd_per_mtok = 1 }'
    )
    text = CATALOG.replace('id = "opus"', f'id = "opus"\nprice_hours = [{hours}]', 1)
    assert len(load_rulebook(text, POLICY).models["opus"].price_hours) == 3


@pytest.mark.rule("policy.mistakes")
def test_all_mistakes_of_both_files_are_reported_together() -> None:
    """Five mistakes are found by one start."""
    said = problems(
        CATALOG.replace("tier = 3", "teir = 3", 1).replace("coding = 8", "coding = 80", 1),
        POLICY.replace("window_s", "windows_s").replace("failures_max = 5", "failures_max = 0", 1),
    )
    assert [one.split(" ")[0] for one in said] == ["catalog.toml:"] * 3 + ["policy.toml:"] * 2
    assert any("Did you mean tier?" in one for one in said)
    assert any("model[sonnet].ratings.coding" in one for one in said)
    assert any("Did you mean window_s?" in one for one in said)
    assert any("attempts.failures_max: 0 cannot be used" in one for one in said)


def test_what_is_no_toml_is_reported_with_its_place() -> None:
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


@pytest.mark.rule("policy.hash")
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


#: What stands in the policy, and all that is said of it, without the name of the file.
SECTIONS = {
    "a preferred model that is not in the catalogue": (
        '[strategy.preference]\ncode = ["codex", "sonet"]',
        ["strategy.preference.code: sonet is no model of the catalogue. Did you mean sonnet?"],
    ),
    "a bias for a model that is not in the catalogue": (
        "[score.bias]\nhiaku = 0.1\nopus = 0.1",
        ["score.bias: hiaku is no model of the catalogue. Did you mean haiku?"],
    ),
    "a lane's models that are not in the catalogue": (
        '[lane.night]\nallow_models = ["gemini"]\nexclude_models = ["opsu", "zzz"]',
        [
            "lane.night.allow_models: gemini is no model of the catalogue. Did you mean gemini-flash?",
            "lane.night.exclude_models: opsu is no model of the catalogue. Did you mean opus?",
            "lane.night.exclude_models: zzz is no model of the catalogue.",
        ],
    ),
    "classes that do not ascend": (
        "[complexity.from_points]\nsimple = 4",
        ["complexity.from_points: simple, standard, complex, expert must ascend, and here they are 4, 4, 7, 10."],
    ),
    "rows that do not ascend": (
        "[complexity]\nby_context_richness = [{ from_share = 0.5, points = 1 }, { from_share = 0.5, points = 2 }]",
        ["complexity.by_context_richness: from_share must ascend, and here they are 0.5, 0.5."],
    ),
    "a misspelt key in a row of a list": (
        "[complexity]\nby_output_length = [{ above_wrds = 5, points = 1 }]",
        [
            "complexity.by_output_length[1]: above_wrds is no known key. Did you mean above_words?",
            "complexity.by_output_length[1]: above_words is missing.",
        ],
    ),
    "a misspelt word that may also be left out": (
        '[lane.night]\nobjective = "qualty"',
        ["lane.night.objective: 'qualty' cannot be used: Invalid enum value 'qualty'. Did you mean quality?"],
    ),
    "weights that weigh nothing": (
        "[score.weights]\nbalanced = { cost = 0, speed = 0, quality = 0 }",
        ["score.weights.balanced: one of cost, speed and quality must be above 0."],
    ),
    "weights with one left out": (
        "[score.weights]\nbalanced = { cost = 1, speed = 1 }",
        ["score.weights.balanced: quality is missing."],
    ),
    "a number for a table": ("lane = 3", ["lane: a table is expected."]),
    "a word for a list": ('[lane.night]\nallow_models = "opus"', ["lane.night.allow_models: a list is expected."]),
    "a key without a letter": (
        '[complexity.by_role]\n"" = 3',
        ["complexity.by_role: the key: '' cannot be used: Expected `str` of length >= 1."],
    ),
    "all at once": (
        '[score.bias]\nhiaku = 0.1\n[complexity.from_points]\nexpert = 5\n[strategy]\ndefault = "objektive"',
        [
            "complexity.from_points: simple, standard, complex, expert must ascend, and here they are 2, 4, 7, 5.",
            (
                "strategy.default: objektive is no shipped strategy, and no plug-in of plugins.strategies."
                " Did you mean objective?"
            ),
            "score.bias: hiaku is no model of the catalogue. Did you mean haiku?",
        ],
    ),
}


@pytest.mark.rule("policy.mistakes")
@pytest.mark.parametrize(("text", "want"), SECTIONS.values(), ids=SECTIONS.keys())
def test_what_cannot_be_meant_is_reported_with_its_key(text: str, want: list[str]) -> None:
    """Names that the catalogue does not have, rows that could never count, and forms that do not fit."""
    assert problems(policy=text) == [f"policy.toml: {sentence}" for sentence in want]


def test_the_policy_is_checked_against_a_catalogue_with_mistakes_of_its_own() -> None:
    """As long as its rows can be read at all."""
    said = problems(CATALOG.replace("{ coding = 10, ", "{ ", 1), "[score.bias]\nhiaku = 0.1")
    assert said == [
        "catalog.toml: model[opus].ratings: coding is missing; every model is rated on all six.",
        "policy.toml: score.bias: hiaku is no model of the catalogue. Did you mean haiku?",
    ]


LISTS = {
    "no rows": ("model = []", "catalog.toml: model: at least 1 must stand there."),
    "too many rows": (f"model = [{', '.join(['{}'] * 1001)}]", "catalog.toml: model: 1001 stand there, and 1000 may."),
    "a number for the rows": ("model = 3", "catalog.toml: model: a list is expected."),
    "a number for a row": ("model = [3]", "catalog.toml: model[1]: a table is expected."),
}


@pytest.mark.parametrize(("text", "want"), LISTS.values(), ids=LISTS.keys())
def test_a_catalogue_has_between_one_and_a_thousand_rows(text: str, want: str) -> None:
    """A value of another type is reported by its type."""
    assert problems(catalog=text)[0] == want


def test_every_section_of_the_policy_stands_in_the_shipped_file() -> None:
    """So that a copy of it shows all there is to change."""
    spelled = tomllib.loads(POLICY)
    sections = {field.encode_name for field in msgspec.structs.fields(Policy)}
    assert sections - spelled.keys() == {"lane"}, "lane stands there as an example"
