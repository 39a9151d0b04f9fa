"""The files that slotwise ships for deciding, wherever they were installed to: the catalogue and the policy."""

from __future__ import annotations

from importlib import resources
from typing import Literal

from streams.settings import Settings
from streams.text_file import read_text_file

Name = Literal["catalog.toml", "policy.toml"]


def shipped(name: Name) -> str:
    """Read a shipped file: `deploy/` of a checkout, or what a wheel carries of it inside the package."""
    package = resources.files("streams")
    inside = package.joinpath("deploy", name)
    return (inside if inside.is_file() else package.joinpath("..", "deploy", name)).read_text("utf-8")


def catalog_text(settings: Settings) -> str:
    """Read the catalogue of the settings, or the shipped one.

    Raises:
        TextFileError: the file cannot be read.
    """
    return read_text_file(settings.catalog) if settings.catalog else shipped("catalog.toml")


def policy_text(settings: Settings) -> str:
    """Read the policy of the settings, or the shipped one.

    Raises:
        TextFileError: the file cannot be read.
    """
    return read_text_file(settings.policy) if settings.policy else shipped("policy.toml")
