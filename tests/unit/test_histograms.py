"""Columns and the marks between them."""

from __future__ import annotations

import re

from streams.web.pages.histograms import Between, ColumnOf, columns


def test_marks_at_one_place_stand_below_each_other_and_not_over_each_other() -> None:
    """Their names could not be read else; a mark elsewhere begins at the top again."""
    found = [ColumnOf(name, {"tier-1": 1.0}, name) for name in ("1", "2", "4")]
    marks = [Between(1, "P50 <2>"), Between(1, "P90 3"), Between(2, "P99 5")]
    drawn = columns(found, label="EVs", marks=marks)
    named = re.findall(r'<text class="mark" x="([\d.]+)" y="(\d+)">([^<]*)</text>', drawn)
    assert named == [("324.0", "12", "P50 &lt;2&gt;"), ("324.0", "26", "P90 3"), ("644.0", "12", "P99 5")]
