"""From what a person names to the plan of an experiment: recordings, fleets, policies and catalogues, rules, paces."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from streams.core.policy.catalog import Model
from streams.core.policy.document import nearest
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.errors import MISTAKE, SlotwiseError
from streams.replay.recorded_files import is_recording, recorded_steps
from streams.settings import Settings
from streams.shipped import catalog_text, policy_file, ready_policies, shipped, whole
from streams.simulate.experiment import OURS, RULES, Book, Cell, Pace, Plan
from streams.simulate.journal_work import journal_work
from streams.simulate.recording import Recording
from streams.simulate.trace_file import BUNDLED, SAMPLE, bundled, from_file
from streams.text_file import read_text_file

#: Names the shipped policy or catalogue in a list.
SHIPPED: Final = "shipped"
#: Runs of one experiment.
RUNS_MAX: Final = 100_000


class PlanError(SlotwiseError):
    """What was named cannot be simulated; the message says what can."""

    exit_code = MISTAKE


def listed(options: Iterable[str]) -> list[str]:
    """Return the words of options that may be given several times, or once with commas."""
    return list(dict.fromkeys(word.strip() for option in options for word in option.split(",") if word.strip()))


def recording_of(trace: str, models: Mapping[str, Model], pool: str | None) -> Recording:
    """Return a bundled recording by its name, or read a CSV file, a journal's export or a file of the sink's lines.

    Raises:
        SlotwiseError: there is none, or it cannot be read; the message says what there is.
    """
    if trace == SAMPLE or trace in BUNDLED:
        return bundled(trace)
    path = Path(trace)
    if not path.exists():
        names = (SAMPLE, *BUNDLED)
        raise PlanError(
            f"There is no file or directory {trace}, and no recording of that name comes with slotwise: "
            f"{', '.join(names)}.{nearest(trace, names)}"
        )
    if is_recording(path):
        return journal_work((entry.value for entry in recorded_steps(path)), models, name=trace, pool=pool)
    return from_file(path)


def books(settings: Settings, policies: Sequence[str], catalogs: Sequence[str]) -> dict[str, tuple[Book, Rulebook]]:
    """Read every policy with every catalogue; none named: the configured or shipped ones.

    Raises:
        SlotwiseError: a file cannot be read, or holds mistakes.
    """
    ready = ready_policies()
    policy_texts = {
        name: whole(
            shipped("policy.toml") if name == SHIPPED else ready[name] if name in ready else read_text_file(name)
        ).text
        for name in policies
    } or {settings.policy or SHIPPED: policy_file(settings).text}
    catalog_texts = {
        name: shipped("catalog.toml") if name == SHIPPED else read_text_file(name) for name in catalogs
    } or {settings.catalog or SHIPPED: catalog_text(settings)}
    found: dict[str, tuple[Book, Rulebook]] = {}
    for (policy, policy_text), (catalog, its_text) in itertools.product(policy_texts.items(), catalog_texts.items()):
        name = policy if len(catalog_texts) == 1 else f"{policy} with {catalog}"
        rulebook = load_rulebook(its_text, policy_text, catalog_file=catalog, policy_file=policy)
        found[name] = Book(name, its_text, policy_text), rulebook
    return found


def rules_of(names: Sequence[str]) -> list[str]:
    """Check the names of rules; none: all there are.

    Raises:
        PlanError: there is no such rule.
    """
    for name in names:
        if name not in RULES:
            raise PlanError(f"There is no rule {name!r}, but {', '.join(RULES)}.{nearest(name, RULES)}")
    return list(names) or list(RULES)


def paces(loads: Sequence[str], rates: Sequence[str], *, default_load: float | None) -> list[Pace]:
    """Read how dense arrivals are to be; nothing said: `default_load`.

    Raises:
        PlanError: both are given, or one is no positive number.
    """
    if loads and rates:
        raise PlanError("Say how dense arrivals are with --load or with --rate, not with both.")
    if rates:
        return [Pace(per_h=_positive(rate, "--rate")) for rate in rates]
    return [Pace(load=_positive(load, "--load")) for load in loads] or [Pace(load=default_load)]


def cells(plan: Plan, rules: Sequence[str], paces: Sequence[Pace]) -> list[Cell]:
    """Return a cell for each rule, fleet and pace; ours by each policy, the others by each catalogue.

    Raises:
        PlanError: that is too many runs.
    """
    by_catalog = {book.catalog_text: place for place, book in reversed(list(enumerate(plan.books)))}
    found = [
        Cell(rule=rule, book=book, fleet=fleet, pace=pace)
        for pace in paces
        for fleet in range(len(plan.fleets))
        for rule in rules
        for book in (range(len(plan.books)) if rule == OURS else sorted(by_catalog.values()))
    ]
    if len(found) * plan.seeds > RUNS_MAX:
        raise PlanError(f"{len(found) * plan.seeds:,} runs are too many, {RUNS_MAX:,} the most: sweep over less.")
    return found


def _positive(text: str, option: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not (math.isfinite(found) and 1e-6 < found < 1e9):  # noqa: PLR2004 -- what no fleet does
        raise PlanError(f"{option} {text!r} is no number above 0.")
    return found
