"""A prompt must fit: input and output tokens together within the model's window."""

from __future__ import annotations

from schemas.events import TaskPending
from streams.core.policy.catalog import Model


def refuses(task: TaskPending, max_tokens: int, model: Model) -> bool:
    """Whether input plus what the model may answer is more than its window."""
    return task.input_tokens + min(max_tokens, model.output_tokens_max) > model.context_window
