"""The fixtures of all tests, as plug-ins, and the markers for what not every machine has."""

from __future__ import annotations

import shutil

import pytest

from tests.support.optional_parts import skip_without

pytest_plugins = ["tests.support.fix_brokers", "tests.support.fix_postgres"]

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a real Kafka, so that `-m "not kafka"` leaves it out."""
    for item in items:
        if {"apache_kafka", "secure_kafka"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Go without the browser tests where there is no Chromium."""
    if item.get_closest_marker("browser") and not any(map(shutil.which, CHROMIUM_NAMES)):
        skip_without("browser", "Chromium is missing: install the package chromium.")
