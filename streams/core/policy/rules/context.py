"""A prompt must fit: alone within the longest input of the model, and with its answer within the window.

The answer is shortened before a model is refused, down to the policy's `output.tokens_min`.
"""

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
        """Whether the input is too long, or leaves too little of the window for an answer."""
        return overflows(case.task.input_tokens, case.answer_tokens(at.model), at.model)

    def reason(self, case: Case, at: Candidate) -> str:
        """The tokens and the model's window."""
        tokens, model = case.task.input_tokens, at.model
        if tokens > model.longest_input:
            return f"{tokens:,} tokens in are more than the {model.longest_input:,} that it takes."
        answer, window = case.answer_tokens(model), model.context_window
        return f"{tokens:,} tokens in and {answer:,} out do not fit its window of {window:,}."

    def remedy(self, case: Case, refused: Sequence[Candidate]) -> str:
        """Fewer tokens in, or a shorter answer."""
        model, tokens = refused[0].model, case.task.input_tokens
        room = min(model.longest_input, model.context_window - case.answer_tokens(model))
        if room > 0:
            return f"Send at most {room:,} tokens in: {tokens - room:,} fewer."
        return f"Let the answer be shorter than {model.context_window - tokens:,} tokens."

    def waits(self, case: Case, refused: Sequence[Candidate]) -> str:  # noqa: ARG002 -- the task is too long for all
        """No window is wide enough."""
        return f"It fits no capable model's context window: {case.task.input_tokens} input tokens and the answer."


def overflows(input_tokens: int, answer_tokens: int, model: Model) -> bool:
    """Whether the input is longer than the model takes, or too long for the answer to fit the window as well."""
    return input_tokens > model.longest_input or input_tokens + answer_tokens > model.context_window
