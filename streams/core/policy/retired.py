"""Policies of earlier versions, as a journal may have recorded them: their keys as they are named now."""

from __future__ import annotations

from typing import Any


def renew(policy: dict[str, Any]) -> None:
    """Change the keys of an earlier version to those of this one, so that they decide as they did."""
    for lane in _tables(policy.get("lane")):
        # Nothing read it any more.
        lane.pop("critical", None)
    complexity = policy.get("complexity")
    rows = complexity.get("by_output_length") if isinstance(complexity, dict) else None
    for row in rows if isinstance(rows, list) else ():
        # Lengths were compared from a number on, and counted as tokens.
        if isinstance(row, dict) and isinstance(row.get("from_tokens"), int):
            row["above_words"] = max(0, row.pop("from_tokens") - 1)


def _tables(value: Any) -> list[dict[str, Any]]:
    return [inner for inner in value.values() if isinstance(inner, dict)] if isinstance(value, dict) else []
