"""What happens to a test that needs something this machine does not have: it is skipped, or fails where CI says so."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

#: The parts that must not be missing: with TESTS_REQUIRE=kafka,browser a test fails instead of skipping.
#: The name does not begin with SLOTWISE_, as slotwise takes each such variable for a setting and refuses unknown ones.
REQUIRED = frozenset(filter(None, os.environ.get("TESTS_REQUIRE", "").split(",")))


def skip_without(part: str, reason: str) -> NoReturn:
    """Skip the test for want of a part; fail it where the part is required."""
    if part in REQUIRED:
        pytest.fail(f"TESTS_REQUIRE names {part}, but: {reason}", pytrace=False)
    pytest.skip(reason)
