"""Catalogue and policy: the files that the settings name, and the shipped ones; what a policy leaves out is as shipped.

A policy is made whole before the router sees it: what is activated and recorded depends on no file of an installation.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from streams.core.policy.document import RulebookError, read
from streams.core.policy.rulebook import Policy, Rulebook, load_rulebook
from streams.settings import Settings
from streams.text_file import read_text_file

Name = Literal["catalog.toml", "policy.toml"]

_INHERITED: Final = "# Whole: what its file leaves out is as slotwise ships it: "


class PolicyFile(Struct, frozen=True, kw_only=True):
    """The whole text of a policy, and what of it is not its file's own."""

    text: str
    #: Keys that the file leaves out, as `quota` or `strategy.preference`: they have the shipped values.
    inherited: tuple[str, ...] = ()


def shipped(name: Name) -> str:
    """Read a shipped file: `deploy/` of a checkout, or what a wheel carries of it inside the package."""
    return _deployed(name).read_text("utf-8")


def ready_policies() -> dict[str, str]:
    """Read the ready policies to start from: by name, their texts."""
    folder = _deployed("policies")
    found = {file.name: file for file in folder.iterdir() if file.name.endswith(".toml")}
    return {name.removesuffix(".toml"): found[name].read_text("utf-8") for name in sorted(found)}


def catalog_text(settings: Settings) -> str:
    """Read the catalogue of the settings, or the shipped one.

    Raises:
        TextFileError: the file cannot be read.
    """
    return read_text_file(settings.catalog) if settings.catalog else shipped("catalog.toml")


def policy_file(settings: Settings) -> PolicyFile:
    """Read the policy of the settings and make it whole, or read the shipped one.

    Raises:
        TextFileError: the file cannot be read.
    """
    return whole(read_text_file(settings.policy)) if settings.policy else PolicyFile(text=shipped("policy.toml"))


def file_rulebook(settings: Settings, *, catalog: str | None = None) -> Rulebook:
    """Return the rulebook of the configured files, or of the shipped ones; `catalog`: with this text instead.

    Raises:
        TextFileError: a file cannot be read.
        RulebookError: they hold mistakes.
    """
    policy = policy_file(settings)
    return load_rulebook(
        catalog_text(settings) if catalog is None else catalog,
        policy.text,
        catalog_file=settings.catalog or "catalog.toml",
        policy_file=settings.policy or "policy.toml",
        inherited=policy.inherited,
    )


def whole(text: str) -> PolicyFile:
    """Give a policy the shipped values of all keys that it leaves out; a text with mistakes stays as it is.

    A map or a list that the policy has, if empty, is its own: nothing is added to it.
    """
    try:
        read(text, Policy, "")
    except RulebookError:
        return PolicyFile(text=text)  # who loads it reports them
    policy = tomllib.loads(text)
    inherited: list[str] = []
    _inherit(policy, tomllib.loads(shipped("policy.toml")), msgspec.inspect.type_info(Policy), "", inherited)
    if not inherited:
        return PolicyFile(text=text)
    import tomlkit  # noqa: PLC0415 - takes a while, and only a policy that is not whole needs it

    return PolicyFile(text=f"{_INHERITED}{', '.join(inherited)}\n{tomlkit.dumps(policy)}", inherited=tuple(inherited))


def _deployed(name: str) -> Traversable:
    """Return a file or folder of `deploy/`."""
    package = resources.files("streams")
    inside = package.joinpath("deploy", name)
    return inside if inside.is_file() or inside.is_dir() else package.joinpath("..", "deploy", name)


def _inherit(table: dict[str, Any], of: dict[str, Any], kind: Any, path: str, inherited: list[str]) -> None:
    """Fill the keys that a table of settings lacks, at any depth."""
    fields: dict[str, Any] = {field.encode_name: field.type for field in kind.fields}
    for key, value in of.items():
        name = f"{path}{key}"
        if key not in table:
            table[key] = value
            inherited.append(name)
        elif isinstance(fields[key], msgspec.inspect.StructType):
            _inherit(table[key], value, fields[key], f"{name}.", inherited)
