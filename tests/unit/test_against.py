"""Choices of a dispatcher are read from CSV, JSON lines or a table; a mistake names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.shadow.against import ChoicesError, choices_in_file


def test_csv_and_json_lines_give_the_same_choices(tmp_path: Path) -> None:
    """Other columns and fields are left alone, and so are empty lines."""
    (tmp_path / "a.csv").write_text("model,task_id,cost\nopus,t-1,0.2\nhaiku,t-2,\n")
    (tmp_path / "a.jsonl").write_text(
        '{"task_id": "t-1", "model": "opus", "cost": 0.2}\n\n{"task_id":"t-2","model":"haiku"}\n'
    )
    wanted = {"t-1": "opus", "t-2": "haiku"}
    assert choices_in_file(str(tmp_path / "a.csv")) == wanted
    assert choices_in_file(str(tmp_path / "a.jsonl")) == wanted


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "task,model\nt-1,opus\n", "Line 2 of .* needs task_id and model"),
        (
            "a.jsonl",
            '{"task_id": "t-1", "model": "opus"}\n{"task_id": "t-2"}\n',
            "Line 2 of .* needs task_id and model",
        ),
        ("a.jsonl", '{"task_id": 7, "model": "opus"}\n', "Line 1 of .* as texts"),
        ("a.jsonl", "t-1 opus\n", "Line 1 of .* is no JSON object"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    """With its number, as an editor counts."""
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ChoicesError, match=said):
        choices_in_file(str(file))
