"""Every metric stands on its page, and the page names none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from streams.metrics import REGISTRY

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text().partition("## The sink")[0]


def test_the_page_and_the_list_name_the_same_metrics() -> None:
    """Every metric is documented."""
    known = {f"{one.name}_total" if one.type == "counter" else one.name for one in REGISTRY.collect()}
    assert set(re.findall(r"`((?:router|slotwise)_\w+)`", PAGE)) == known
