"""What may be known of a question before it is answered: what kind of work it is, by what its source calls it.

This is what a producer would write into a task by hand. It was written from the names alone: no mark was looked at.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from schemas.vocabulary import Dimension

CHARS_PER_TOKEN: Final = 4


class Kind(Struct, frozen=True):
    """A kind of work, as a producer sees it."""

    task_type: str
    agent_role: str
    #: How long an answer is asked for; also what it costs where the real length is not known.
    output_tokens: int
    requires_reasoning: bool = False
    #: The rating that it asks for, where the producer would ask for one.
    requires: dict[Dimension, int] = {}


KNOWLEDGE: Final = Kind("question", "analyst", 16)
READING: Final = Kind("summarize", "analyst", 64)
WRITING: Final = Kind("writing", "writer", 500)
TRANSLATION: Final = Kind("translate", "writer", 100)
REASONING: Final = Kind("analysis", "analyst", 16, requires_reasoning=True, requires={"reasoning": 7})
MATHS: Final = Kind("analysis", "analyst", 300, requires_reasoning=True, requires={"reasoning": 7})
CODE: Final = Kind("code", "coder", 400, requires={"coding": 7})

#: Beginnings of what the sources call their questions; the first that fits counts, others are knowledge.
_KINDS: Final[tuple[tuple[Kind, tuple[str, ...]], ...]] = (
    (MATHS, ("gsm8k", "math", "agentverse-mgsm", "MathQA", "MATH", "AIME", "AsDiv", "FinQA", "GeoBench")),
    (CODE, ("mbpp", "human_eval", "LiveCodeBench", "coding")),
    (WRITING, ("writing", "commongen")),
    (TRANSLATION, ("WMT19",)),
    (READING, ("NarrativeQA", "PubMedQA", "SuperGLUE", "extraction")),
    (
        REASONING,
        (
            "abstract_algebra", "college_mathematics", "elementary_mathematics", "high_school_mathematics",
            "high_school_statistics", "formal_logic", "college_physics", "high_school_physics", "conceptual_physics",
            "college_chemistry", "high_school_chemistry", "astronomy", "electrical_engineering", "econometrics",
            "college_computer_science", "high_school_computer_science", "machine_learning", "agentverse-logicgrid",
            "gpqa", "MMLU_formal_logic", "MMLUPro_math", "MMLUPro_physics", "MMLUPro_chemistry", "MMLUPro_engineering",
            "MMLUPro_computer", "OpenTDB_Science: Mathematics", "ChessInstruct", "stem", "reasoning",
        ),
    ),
)  # fmt: skip


def kind_of(sort: str) -> Kind:
    """What kind of work a source's word means."""
    return next((kind for kind, names in _KINDS if sort.startswith(names)), KNOWLEDGE)
