"""A prompt must fit: input and output tokens together within the model's window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streams.core.policy.case import Candidate, Case
from streams.core.policy.catalog import Model


class Context:
    """The tokens against the window of the model."""

    gate: Final = "context"
    headline: Final = "context"
    looks_at: Final = "task"
    task_fields: Final = ()
    unable: Final = True
    means: Final = "cannot hold the task in its context"

    def refuses(self, case: Case, at: Candidate) -> bool:
        """Whether input plus what the model may answer is more than its window."""
        return overflows(case.task.input_tokens, case.max_tokens, at.model)

    def reason(self, case: Case, at: Candidate) -> str:
        """The tokens and the model's window."""
        tokens, window = case.task.input_tokens, at.model.context_window
        return f"{tokens:,} tokens in and {_answer(case, at.model):,} out do not fit its window of {window:,}."

    def remedy(self, case: Case, refused: Sequence[Candidate]) -> str:
        """Fewer tokens in, or a shorter answer."""
        model, tokens = refused[0].model, case.task.input_tokens
        room = model.context_window - _answer(case, model)
        if room > 0:
            return f"Send at most {room:,} tokens in: {tokens - room:,} fewer."
        return f"Let the answer be shorter than {model.context_window - tokens:,} tokens."

    def waits(self, case: Case, refused: Sequence[Candidate]) -> str:  # noqa: ARG002 -- the task is too long for all
        """No window is wide enough."""
        return f"It fits no capable model's context window: {case.task.input_tokens} input tokens and the answer."


def overflows(input_tokens: int, max_tokens: int, model: Model) -> bool:
    """Whether the input and the longest answer are more than the model's window."""
    return input_tokens + min(max_tokens, model.output_tokens_max) > model.context_window


def _answer(case: Case, model: Model) -> int:
    return min(case.max_tokens, model.output_tokens_max)
