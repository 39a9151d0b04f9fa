"""What no fleet can mean, and what no parser takes, is a mistake of the file: a short sentence, found by the check."""

from __future__ import annotations

import pytest

from streams.core.policy.document import RulebookError
from streams.core.policy.rulebook import load_rulebook
from streams.shipped import shipped

CATALOG = shipped("catalog.toml")


def problems(catalog: str = CATALOG, policy: str = "") -> list[str]:
    """Give what loading these texts complains about."""
    with pytest.raises(RulebookError) as caught:
        load_rulebook(catalog, policy)
    return caught.value.problems


UNFIT_ROWS = {
    "an answer longer than the window": (
        "output_tokens_max = 128_000",
        "output_tokens_max = 2_000_000",
        "model[opus].output_tokens_max: 2,000,000 is more than context_window, 1,000,000,",
    ),
    "a product of two providers": (
        'provider = "anthropic"',
        'provider = "bedrock"',
        (
            "model[sonnet].product: claude is of bedrock in model[opus], and of anthropic here; "
            "a product, whose quota is counted, has one provider."
        ),
    ),
    "a speed without an end": ("speed_tps = 22.0", "speed_tps = inf", "model[opus].speed_tps: inf cannot be used"),
    "a speed that no machine has": ("speed_tps = 22.0", "speed_tps = 1e300", "model[opus].speed_tps: 1e+300 cannot be"),
    "a speed near 0": ("speed_tps = 22.0", "speed_tps = 1e-300", "model[opus].speed_tps: 1e-300 cannot be used"),
    "a NUL in an id": (
        'id = "opus"',
        'id = "op\\u0000us"',
        "model[op\\u0000us].id: 'op\\x00us' holds a control character.",
    ),
    "an escape in a source": (
        'product = "claude"',
        'product = "\\u001b[31m"',
        "model[opus].product: '\\x1b[31m' holds",
    ),
    "a window of more than 64 bits": ("1_000_000", "9" * 30, "model[opus].context_window: a number of that size"),
    "a window that no model has": ("1_000_000", "9" * 18, "model[opus].context_window: 999999999999999999 cannot be"),
}


@pytest.mark.rule("policy.mistakes")
@pytest.mark.parametrize(("right", "wrong", "want"), UNFIT_ROWS.values(), ids=UNFIT_ROWS.keys())
def test_a_row_that_no_fleet_can_mean_is_a_mistake(right: str, wrong: str, want: str) -> None:
    """Found by the check, and not by the first task."""
    assert right in CATALOG
    said = problems(catalog=CATALOG.replace(right, wrong, 1))
    assert any(one.startswith(f"catalog.toml: {want}") for one in said), said


UNFIT_THRESHOLDS = {
    "a lease of 0 ms": ("[leases]\ndefault_s = 0.0004", "leases.default_s: 0.0004 cannot be used"),
    "a lease of 0 ms for a class": (
        "[leases.by_complexity_s]\nexpert = 0.0004",
        "leases.by_complexity_s.expert: 0.0004 ",
    ),
    "a window of 0 ms": ("[ev]\nwindow_s = 0.0001", "ev.window_s: 0.0001 cannot be used"),
    "a weight that vanishes": (
        "[score.weights]\nquality = { cost = 5e-324, speed = 0, quality = 0 }",
        "score.weights.quality.cost: 5e-324 cannot be used: write 0, or at least 1e-09.",
    ),
    "a NUL in the name of a lane": ('[lane."a\\u0000b"]\nobjective = "quality"', "lane.a\\u0000b.strategy"),
    "a line end in a role": (
        '[complexity.by_role]\n"a\\nb" = 3',
        "complexity.by_role.a\\u000ab: a name holds a control",
    ),
    "a number that is none": ("[premium]\nev_percentile = nan", "premium.ev_percentile: nan cannot be used"),
}


@pytest.mark.rule("policy.mistakes")
@pytest.mark.parametrize(("text", "want"), UNFIT_THRESHOLDS.values(), ids=UNFIT_THRESHOLDS.keys())
def test_a_threshold_that_no_fleet_can_mean_is_a_mistake(text: str, want: str) -> None:
    """The sentence can be printed and stored, whatever the file holds."""
    (problem, *_) = problems(policy=text)
    assert problem.startswith(f"policy.toml: {want}")
    assert problem.isprintable()


@pytest.mark.rule("policy.mistakes")
def test_a_recorded_text_is_held_to_what_was_asked_of_it_then() -> None:
    """An installation that goes on with an odd policy must be able to start again."""
    odd = CATALOG.replace("speed_tps = 22.0", "speed_tps = inf").replace('provider = "anthropic"', 'provider = "x"', 1)
    assert load_rulebook(odd, "[leases]\ndefault_s = 0.0004", recorded=True).policy.leases.default_s == 0.0004


NO_TOML = {
    "a number of too many digits": "a = " + "9" * 5000,
    "a list nested too deep": "a = " + "[" * 3000,
    "tables nested too deep": "a = " + "{a = " * 3000,
}


@pytest.mark.parametrize("text", NO_TOML.values(), ids=NO_TOML.keys())
def test_what_no_parser_takes_is_a_mistake_like_others(text: str) -> None:
    """In either file."""
    said = problems(text, text)
    assert [one.partition(": not readable as TOML: ")[0] for one in said] == ["catalog.toml", "policy.toml"]


HUGE = {
    "a key": f'"{"k" * 100_000}" = 1',
    "a value": f'[strategy]\ndefault = "{"v" * 100_000}"',
    "a list in place of a word": f"[strategy]\ndefault = [{'0, ' * 50_000}]",
    "keys nested deep": "a." * 900 + "b = 1",
    "a number in place of a word": f"[strategy]\ndefault = 0x{'f' * 10_000}",
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE.keys())
def test_a_sentence_is_short_whatever_the_file_holds(text: str) -> None:
    """It goes to a terminal, a log and the header of a dead letter."""
    assert all(len(one) < 500 for one in problems(policy=text))
