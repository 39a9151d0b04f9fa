"""The installed plug-ins, by entry point, and how one is loaded; every error is one sentence."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal, TypeAlias

from streams.core.policy.document import nearest
from streams.core.policy.plugins import PluginPolicy
from streams.errors import MISTAKE, SlotwiseError

Role: TypeAlias = Literal["scorer", "strategy", "rule"]

GROUPS: Final[dict[Role, str]] = {
    "scorer": "slotwise.scorers",
    "strategy": "slotwise.strategies",
    "rule": "slotwise.rules",
}


class PluginError(SlotwiseError):
    """A plug-in cannot be used; the message says which, why, and what to do."""

    exit_code = MISTAKE


def named(policy: PluginPolicy) -> list[tuple[Role, str]]:
    """Return the plug-ins that a policy names."""
    found: list[tuple[Role, str]] = [] if policy.scorer is None else [("scorer", policy.scorer)]
    found += [("strategy", name) for name in policy.strategies]
    found += [("rule", name) for name in policy.rules]
    return found


def load(role: Role, name: str) -> Any:
    """Return the callable of an entry point; a class is instantiated once, without arguments.

    Raises:
        PluginError: it is not installed, or twice, or importing it raises, or it cannot be called.
    """
    known = entry_points(group=GROUPS[role])
    found: list[EntryPoint] = [point for point in known if point.name == name]
    if not found:
        there = ", ".join(sorted({point.name for point in known})) or "none is"
        raise PluginError(
            f"the {role} {name} is not installed: install the package whose entry point {name} is in the group "
            f"{GROUPS[role]} (installed: {there}).{nearest(name, {point.name for point in known})}"
        )
    if len(found) > 1:
        packages = " and ".join(sorted(point.dist.name if point.dist else point.value for point in found))
        raise PluginError(f"the {role} {name} is installed twice, by {packages}: uninstall one.")
    try:
        plugin = found[0].load()
        if isinstance(plugin, type):
            plugin = plugin()
    except (Exception, SystemExit) as error:
        raise PluginError(f"the {role} {name} ({found[0].value}) cannot be loaded: {error!r}.") from error
    if not callable(plugin):
        raise PluginError(f"the {role} {name} ({found[0].value}) cannot be called: {type(plugin).__name__}.")
    return plugin
