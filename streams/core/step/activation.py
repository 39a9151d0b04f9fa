"""Activates another policy and catalogue at one position of the log, or refuses them with all reasons."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from schemas.decision import Activated
from schemas.events import PolicyActivated
from streams.core.policy.document import RulebookError
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.core.state.partition import Partition

#: A refusal has room for so many mistakes; `slotwise policy check` lists all.
_PROBLEMS_MAX: Final = 20


def activate(event: PolicyActivated, active: Rulebook, state: Partition) -> tuple[Activated, Rulebook] | str:
    """Return the activated texts with their rulebook, or the reason of a refusal."""
    if event.pool is not None:
        return "a policy is activated for all pools of a partition: leave pool out."
    policy_text = event.policy_text if event.policy_text is not None else active.policy_text
    catalog_text = event.catalog_text if event.catalog_text is not None else active.catalog_text
    if policy_text is None or catalog_text is None:
        return "policy_text and catalog_text must be sent: this router knows no texts of its own."
    try:
        rulebook = _load(catalog_text, policy_text)
    except RulebookError as error:
        more = len(error.problems) - _PROBLEMS_MAX
        return " ".join([*error.problems[:_PROBLEMS_MAX], *([f"And {more} more."] if more > 0 else [])])
    for what, said, found in (
        ("policy", event.policy, rulebook.policy_hash),
        ("catalog", event.catalog, rulebook.catalog_hash),
    ):
        if said != found:
            return f"{what} {said} is not the hash of the text that is meant, which is {found}: send the text with it."
    if missing := models_lacking(state, rulebook):
        return (
            f"the new catalogue lacks {', '.join(missing)}, which slots or tasks of this partition use: "
            "retire those slots, or keep the rows."
        )
    activated = Activated(
        policy=rulebook.policy_hash,
        catalog=rulebook.catalog_hash,
        policy_text=policy_text,
        catalog_text=catalog_text,
        ev_window_ms=rulebook.ev_window_ms,
        finished_memory_ms=rulebook.memory_ms,
    )
    return activated, rulebook


def rulebook_of(activated: Activated) -> Rulebook:
    """Return the rulebook of activated texts."""
    return _load(activated.catalog_text, activated.policy_text, recorded=True)


def models_lacking(state: Partition, rulebook: Rulebook) -> list[str]:
    """Return the models that slots or tasks of a partition use and the rulebook does not have, in order."""
    used = {slot.model for pool in state.pools.values() for slot in pool.slots.values()}
    floors = (row.task.floor_model for pool in state.pools.values() for row in pool.tasks.values())
    used.update(model for model in floors if model is not None)
    return sorted(used - rulebook.models.keys())


@lru_cache(maxsize=8)
def _load(catalog_text: str, policy_text: str, *, recorded: bool = False) -> Rulebook:
    return load_rulebook(catalog_text, policy_text, recorded=recorded)
