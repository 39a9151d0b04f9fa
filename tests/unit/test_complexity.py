"""A task with a role gets a class by a table that is data: points, thresholds, and classes it has at least."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.vocabulary import Complexity
from streams.core.policy.complexity import CLASSES, ClassPoints, ComplexityPolicy, LengthPoints, RichnessPoints
from streams.core.policy.document import RulebookError
from streams.core.policy.rulebook import Policy, load_rulebook
from streams.shipped import shipped
from tests.support.builders import rulebook, task

SHIPPED = rulebook().policy.complexity


def table(**named: Any) -> ComplexityPolicy:
    """Give a table in which each ingredient has points of its own, recognisable by their digits."""
    return ComplexityPolicy(
        **{
            "by_role": {"writer": 1, "coder": 2},
            "other_role": 3,
            "requires_reasoning": 10,
            "by_output_length": (
                LengthPoints(above_words=1_000, points=100),
                LengthPoints(above_words=8_000, points=200),
            ),
            "by_context_richness": (
                RichnessPoints(from_share=0.25, points=1_000),
                RichnessPoints(from_share=0.75, points=900),
            ),
            **named,
        }
    )


POINTS: dict[str, tuple[dict[str, Any], int]] = {
    "a role": ({"agent_role": "writer"}, 1),
    "another role": ({"agent_role": "coder"}, 2),
    "a role that is not listed": ({"agent_role": "poet"}, 3),
    "a role in other letters is another role": ({"agent_role": "Writer"}, 3),
    "reasoning": ({"agent_role": "writer", "requires_reasoning": True}, 11),
    "length at the first row": ({"agent_role": "writer", "output_length_target": 1_000}, 1),
    "length just above the first row": ({"agent_role": "writer", "output_length_target": 1_001}, 101),
    "length at the second row": ({"agent_role": "writer", "output_length_target": 8_000}, 101),
    "length just above the second row": ({"agent_role": "writer", "output_length_target": 8_001}, 201),
    "no length at all": ({"agent_role": "writer", "output_length_target": 0}, 1),
    "richness just under the first row": ({"agent_role": "writer", "context_richness": 0.2499}, 1),
    "richness at the first row": ({"agent_role": "writer", "context_richness": 0.25}, 1_001),
    "richness just under the second row": ({"agent_role": "writer", "context_richness": 0.7499}, 1_001),
    "richness at the second row": ({"agent_role": "writer", "context_richness": 0.75}, 901),
    "all of them": (
        {"agent_role": "coder", "requires_reasoning": True, "output_length_target": 9_000, "context_richness": 1.0},
        1_112,
    ),
    "a revision adds no points": ({"agent_role": "writer", "has_revision_history": True}, 1),
}


@pytest.mark.rule("policy.complexity")
@pytest.mark.parametrize(("told", "want"), POINTS.values(), ids=POINTS.keys())
def test_each_field_of_a_task_has_its_points(told: dict[str, Any], want: int) -> None:
    """Only the last row that is reached counts."""
    one = task(**told)
    assert one.agent_role is not None
    assert table().points(one, one.agent_role) == want


SUMS: dict[int, Complexity] = {
    -5: "trivial", 0: "trivial", 1: "trivial",
    2: "simple", 3: "simple",
    4: "standard", 6: "standard",
    7: "complex", 9: "complex",
    10: "expert", 99: "expert",
}  # fmt: skip


@pytest.mark.rule("task.complexity")
@pytest.mark.parametrize(("points", "want"), SUMS.items())
def test_the_sum_has_a_class_from_its_threshold_on(points: int, want: Complexity) -> None:
    """Below the lowest a task is trivial."""
    by = ComplexityPolicy(by_role={"writer": points})
    assert by.classify(task(agent_role="writer")) == want


HARDER: dict[Complexity, Complexity] = {
    "trivial": "simple", "simple": "standard", "standard": "complex", "complex": "expert", "expert": "expert",
}  # fmt: skip


@pytest.mark.rule("detail.14")
@pytest.mark.parametrize(("before", "want"), HARDER.items())
def test_work_that_was_sent_back_is_one_class_harder(before: Complexity, want: Complexity) -> None:
    """A revision is one class harder; expert stays expert."""
    points = {"trivial": 0, "simple": 2, "standard": 4, "complex": 7, "expert": 10}[before]
    by = ComplexityPolicy(by_role={"writer": points})
    assert by.classify(task(agent_role="writer")) == before
    assert by.classify(task(agent_role="writer", has_revision_history=True)) == want


@pytest.mark.parametrize("given", HARDER)
def test_a_class_that_is_given_stays(given: Complexity) -> None:
    """The task's own class counts, whatever its other fields are."""
    told = task(complexity=given, agent_role="architect", requires_reasoning=True, has_revision_history=True)
    assert SHIPPED.classify(told) == given


def test_without_a_class_and_a_role_there_is_none() -> None:
    """Its other fields give no class."""
    told = task(requires_reasoning=True, output_length_target=50_000, context_richness=1.0, has_revision_history=True)
    assert SHIPPED.classify(told) is None


SHIPPED_CASES: dict[str, tuple[dict[str, Any], Complexity]] = {
    "an editor": ({"agent_role": "editor"}, "trivial"),
    "an editor who must think": ({"agent_role": "editor", "requires_reasoning": True}, "simple"),
    "a translator": ({"agent_role": "translator"}, "trivial"),
    "a writer": ({"agent_role": "writer"}, "simple"),
    "a writer of a long text": ({"agent_role": "writer", "output_length_target": 2_501}, "standard"),
    "a tester": ({"agent_role": "tester"}, "simple"),
    "a tester who must think": ({"agent_role": "tester", "requires_reasoning": True}, "standard"),
    "a coder": ({"agent_role": "coder"}, "standard"),
    "a coder whose work was sent back": ({"agent_role": "coder", "has_revision_history": True}, "complex"),
    "a coder who must think, in a rich context": (
        {"agent_role": "coder", "requires_reasoning": True, "context_richness": 0.5},
        "complex",
    ),
    "a reviewer": ({"agent_role": "reviewer"}, "standard"),
    "a role that is not listed": ({"agent_role": "poet"}, "standard"),
    "a researcher": ({"agent_role": "researcher"}, "standard"),
    "a researcher who must think": ({"agent_role": "researcher", "requires_reasoning": True}, "complex"),
    "an orchestrator": ({"agent_role": "orchestrator"}, "standard"),
    "an architect": ({"agent_role": "architect"}, "complex"),
    "an architect who must think, in a rich context": (
        {"agent_role": "architect", "requires_reasoning": True, "context_richness": 0.5},
        "expert",
    ),
    "security that must think, in a rich context": (
        {"agent_role": "security", "requires_reasoning": True, "context_richness": 0.8},
        "expert",
    ),
}


@pytest.mark.rule("task.complexity")
@pytest.mark.parametrize(("told", "want"), SHIPPED_CASES.values(), ids=SHIPPED_CASES.keys())
def test_the_shipped_table_classifies_as_one_expects(told: dict[str, Any], want: Complexity) -> None:
    """Each role has the class that is listed here."""
    assert SHIPPED.classify(task(**told)) == want


#: The roles of the documents that this table is from, and of them the class without more.
ORIGIN: dict[str, Complexity] = {
    "social-post-writer": "simple",
    "email-writer": "simple",
    "blog-writer": "standard",
    "context-file-writer": "complex",
    "strategy-writer": "expert",
}
#: Words, reasoning -> the class that every task has at least; None: the length sets none.
LENGTHS: dict[tuple[int | None, bool], Complexity | None] = {
    (None, False): None,
    (None, True): None,
    (1_500, False): None,
    (1_500, True): None,
    (1_501, False): None,
    (1_501, True): "complex",
    (2_500, False): None,
    (2_500, True): "complex",
    (2_501, False): "standard",
    (2_501, True): "complex",
    (50_000, False): "standard",
    (50_000, True): "complex",
}
WITH_LENGTHS = [(role, *length) for role in (*ORIGIN, "poet") for length in LENGTHS]


@pytest.mark.rule("amend.43", "task.complexity")
@pytest.mark.parametrize(("role", "words", "reasoning"), WITH_LENGTHS)
def test_the_shipped_table_knows_the_roles_and_lengths_of_the_origin(
    role: str, words: int | None, reasoning: bool
) -> None:
    """Reasoning and more than 1,500 words is complex, exactly 1,500 is not; else more than 2,500 words is standard."""
    found = SHIPPED.classify(task(agent_role=role, output_length_target=words, requires_reasoning=reasoning))
    assert found is not None
    of_role = ORIGIN.get(role, "standard")
    least = LENGTHS[words, reasoning]
    if least is not None:
        assert found == max(of_role, least, key=CLASSES.index)
    elif not reasoning:
        assert found == of_role
    else:
        # Reasoning alone makes a simple task a standard one, and no standard one complex.
        assert found == max(of_role, "standard", key=CLASSES.index)


@pytest.mark.rule("amend.43")
def test_a_revision_is_harder_than_the_class_that_a_task_has_at_least() -> None:
    """A long text that was sent back is complex."""
    assert SHIPPED.classify(task(agent_role="editor", output_length_target=2_501)) == "standard"
    sent_back = task(agent_role="editor", output_length_target=2_501, has_revision_history=True)
    assert SHIPPED.classify(sent_back) == "complex"


@pytest.mark.rule("amend.43")
def test_a_policy_of_an_earlier_version_that_a_journal_recorded_classifies_as_it_did() -> None:
    """Lengths counted from a number on; in a file such a row is refused, and its new key is named."""
    rows = "[complexity]\nby_output_length = [{ from_tokens = 1_000, points = 9 }]\n"
    then = load_rulebook(shipped("catalog.toml"), rows, recorded=True).policy.complexity
    assert then.classify(task(agent_role="poet", output_length_target=999)) == "standard"
    assert then.classify(task(agent_role="poet", output_length_target=1_000)) == "expert"
    with pytest.raises(RulebookError, match="from_tokens is no known key") as refused:
        load_rulebook(shipped("catalog.toml"), rows)
    assert "policy.toml: complexity.by_output_length[1]: above_words is missing." in refused.value.problems


BARS: dict[str, dict[Complexity, tuple[int, int]]] = {
    # Of each class the bar, and the one that holds where it gave way.
    "shipped": {"trivial": (1, 1), "simple": (1, 1), "standard": (2, 1), "complex": (2, 1), "expert": (3, 2)},
    "one is lower than an easier one": {"trivial": (1, 1), "simple": (2, 1), "standard": (3, 2), "complex": (1, 1)},
    "none is lower": {"trivial": (2, 2), "simple": (2, 2), "standard": (3, 2), "complex": (3, 2), "expert": (3, 2)},
}


@pytest.mark.rule("amend.46")
@pytest.mark.parametrize("bars", BARS.values(), ids=BARS)
def test_a_bar_gives_way_to_the_next_lower_one_of_an_easier_class(bars: dict[Complexity, tuple[int, int]]) -> None:
    """And to none where no easier class has a lower one."""
    policy = Policy(complexity_tier_min={name: bar for name, (bar, _) in bars.items()})
    found = {name: (policy.class_tier_min(name), policy.class_tier_min(name, gave_way=True)) for name in bars}
    assert found == bars


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "classes that do not ascend": (
        {"from_points": ClassPoints(standard=8)},
        "from_points: simple, standard, complex, expert must ascend, and here they are 2, 8, 7, 10.",
    ),
    "two classes from the same sum": (
        {"from_points": ClassPoints(simple=4)},
        "from_points: simple, standard, complex, expert must ascend, and here they are 4, 4, 7, 10.",
    ),
    "lengths that do not ascend": (
        {"by_output_length": (LengthPoints(above_words=2, points=1), LengthPoints(above_words=2, points=2))},
        "by_output_length: above_words must ascend, and here they are 2, 2.",
    ),
    "shares that do not ascend": (
        {"by_context_richness": (RichnessPoints(from_share=0.5, points=1), RichnessPoints(from_share=0.4, points=2))},
        "by_context_richness: from_share must ascend, and here they are 0.5, 0.4.",
    ),
}


@pytest.mark.parametrize(("changed", "want"), MISTAKES.values(), ids=MISTAKES.keys())
def test_rows_and_classes_must_ascend(changed: dict[str, Any], want: str) -> None:
    """A row that can never count is reported as a mistake."""
    assert list(msgspec.structs.replace(SHIPPED, **changed).mistakes()) == [want]


def test_the_shipped_table_has_no_mistakes() -> None:
    """The table of an empty policy has none either."""
    assert list(SHIPPED.mistakes()) == list(ComplexityPolicy().mistakes()) == []
