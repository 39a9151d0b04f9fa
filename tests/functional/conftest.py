"""One running installation for all tests that only talk to one, and directories for those that start their own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.functional.commands import Up

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Give a data directory of its own; not under pytest's, which the user that Postgres runs as may not pass."""
    with tempfile.TemporaryDirectory(prefix="slotwise-up-") as directory:
        yield Path(directory)


@pytest.fixture(scope="package")
def installation() -> Iterator[Up]:
    """Give an installation that runs as long as the functional tests do; every test uses a pool of its own."""
    with tempfile.TemporaryDirectory(prefix="slotwise-up-") as directory, Up(Path(directory)) as up:
        yield up


@pytest.fixture(scope="package")
def operated() -> Iterator[Up]:
    """Give an installation for orders that concern every pool; the tests that share it restore what they mark."""
    with tempfile.TemporaryDirectory(prefix="slotwise-up-") as directory, Up(Path(directory)) as up:
        yield up


@pytest.fixture(scope="module")
def own_installation() -> Iterator[Up]:
    """Give a module an installation of its own: what is activated there concerns no other module."""
    with tempfile.TemporaryDirectory(prefix="slotwise-up-") as directory, Up(Path(directory)) as up:
        yield up
