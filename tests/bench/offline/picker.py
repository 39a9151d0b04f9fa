"""Rules for a pair of models: which items the strong one serves. None but the oracle sees a mark.

There are places enough for all, so that this is about picking alone; waits are the business of the fleets. For the
router the weak model stands in haiku's place and the strong one in opus's: two slots, both free, one item at a time.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct, structs

from schemas.events import TaskPending
from schemas.vocabulary import Complexity, from_millis
from streams.simulate.job import EPOCH_MS, POOL
from streams.simulate.memory_router import MemoryRouter
from tests.bench.offline.curve import Picks
from tests.bench.offline.item import Item, PairData
from tests.bench.offline.kind import CHARS_PER_TOKEN
from tests.support.builders import rulebook

SEED: Final = 20261121
WEAK: Final = ("haiku-1", "haiku")
STRONG: Final = ("opus-1", "opus")
#: Settings of a threshold, as the share of calls that it should give.
SHARES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
HALF: Final = SHARES.index(0.5)
CLASSES: Final[tuple[Complexity, ...]] = ("trivial", "simple", "standard", "complex", "expert")
#: A context of so many tokens counts as the richest.
RICH_TOKENS: Final = 8_000
#: Kinds with few outcomes are drawn towards the mean of all by so many more.
PRIOR_OUTCOMES: Final = 20


class Picked(Struct, frozen=True):
    """What a rule picked."""

    rule: str
    #: As it comes; a rule that has to be set first (`by_share`) is set to about half of the calls.
    picks: Picks
    #: At each of its settings, where it has some.
    settings: tuple[Picks, ...] = ()
    by_share: bool = False


def picked(data: PairData) -> list[Picked]:
    """All rules, on one set."""
    items = data.items
    chance = random.Random(SEED)
    half = [chance.random() < 0.5 for _ in items]
    lots = [chance.random() for _ in items]
    bars = [bool(item.kind.requires) for item in items]
    gains = [item.gain for item in items]
    by_length = by_lift(items, [float(item.prompt_chars) for item in items])
    by_gain = by_lift(items, learned(items))
    by_class = tuple(
        routed(
            items,
            lambda place, now_ms: with_role(items[place], place, now_ms),
            complexity_tier_min=tiers_from(least),
        )
        for least in range(1, len(CLASSES))
    )
    return [
        Picked("always-cheap", [False] * len(items)),
        Picked("always-premium", [True] * len(items)),
        Picked("oracle (sees the marks)", [gain > 0 for gain in gains], highest(gains, lots)),
        Picked("next free slot", half),
        Picked("plain [A]", bars),
        Picked("slotwise", routed(items, lambda place, now_ms: asked(items[place], place, now_ms))),
        Picked(
            "slotwise, roles given",
            routed(items, lambda place, now_ms: with_role(items[place], place, now_ms)),
            by_class,
        ),
        Picked("slotwise, EV = prompt length", by_length[HALF], by_length, by_share=True),
        Picked("slotwise, EV = gain learned by kind", by_gain[HALF], by_gain, by_share=True),
    ]


def highest(values: Sequence[float], tie_breaks: Sequence[float] | None = None) -> tuple[Picks, ...]:
    """The items with the highest values, so many at each setting."""
    order = sorted(
        range(len(values)), key=lambda place: (-values[place], tie_breaks[place] if tie_breaks is not None else place)
    )
    settings = []
    for share in SHARES:
        best = set(order[: round(share * len(order))])
        settings.append([place in best for place in range(len(order))])
    return tuple(settings)


def learned(items: Sequence[Item]) -> list[float]:
    """The gain to expect of each item, by the outcomes of others of its sort, none of them in its own half."""
    chance = random.Random(SEED)
    half = [chance.random() < 0.5 for _ in items]
    expected = []
    tables = {
        side: _means([item for item, own in zip(items, half, strict=True) if own != side]) for side in (True, False)
    }
    for item, side in zip(items, half, strict=True):
        expected.append(tables[side](item.sort))
    return expected


def _means(items: Sequence[Item]) -> Callable[[str], float]:
    gains: dict[str, list[float]] = defaultdict(list)
    for item in items:
        gains[item.sort].append(item.gain)
    mean = sum(item.gain for item in items) / max(1, len(items))
    return lambda sort: (sum(gains[sort]) + PRIOR_OUTCOMES * mean) / (len(gains[sort]) + PRIOR_OUTCOMES)


def tiers_from(place: int) -> dict[str, int]:
    """The premium tier for this class and all harder ones, the cheap one for those below."""
    return {name: 3 if number >= place else 1 for number, name in enumerate(CLASSES)}


def by_lift(items: Sequence[Item], evs: Sequence[float]) -> tuple[Picks, ...]:
    """The router with EVs and no bars, its two percentiles of EV set to let the wanted share pass."""
    return tuple(
        routed(
            items,
            lambda place, now_ms: valued(items[place], place, now_ms, evs[place]),
            ev={"recompute_s": 1.0},
            lift={"ev_percentile": 1 - share},
            premium={"ev_percentile": 1 - share},
        )
        for share in SHARES
    )


def routed(items: Sequence[Item], tell: Callable[[int, int], TaskPending], **policy: dict[str, Any]) -> Picks:
    """What the router picks under the shipped policy, changed as said. One item a second, in an order by lot."""
    order = list(range(len(items)))
    random.Random(SEED).shuffle(order)
    router = MemoryRouter(rulebook(**policy))
    router.handle(0, [router.slot_announced(*slot, 0) for slot in (WEAK, STRONG)])
    picks = [False] * len(items)
    for number, place in enumerate(order, 1):
        now_ms = number * 1000
        (decision,) = router.handle(now_ms, [tell(place, now_ms)])
        assert decision.chosen_slot_id is not None
        picks[place] = decision.chosen_slot_id == STRONG[0]
        router.handle(now_ms, [router.slot_freed(decision.chosen_slot_id, now_ms)])
    return picks


def asked(item: Item, place: int, now_ms: int) -> TaskPending:
    """The task that a producer would send: kind, bar and length, and no EV, as nothing says what an answer is worth."""
    return TaskPending(
        task_id=_id(place),
        pool=POOL,
        at=from_millis(EPOCH_MS + now_ms),
        requires=item.kind.requires,
        task_type=item.kind.task_type,
        input_tokens=item.prompt_chars // CHARS_PER_TOKEN,
    )


def with_role(item: Item, place: int, now_ms: int) -> TaskPending:
    """The same from an agent that tells its role and all that the classifier of complexity asks for."""
    tokens = item.prompt_chars // CHARS_PER_TOKEN
    return structs.replace(
        asked(item, place, now_ms),
        agent_role=item.kind.agent_role,
        requires_reasoning=item.kind.requires_reasoning,
        output_length_target=item.kind.output_tokens * 3 // 4,
        context_richness=min(1.0, tokens / RICH_TOKENS),
    )


def valued(item: Item, place: int, now_ms: int, ev: float) -> TaskPending:
    """A task that tells what it is worth, and no bar."""
    return structs.replace(asked(item, place, now_ms), requires={}, ev=ev)


def _id(place: int) -> str:
    # Some questions stand in the data twice, and are two tasks all the same.
    return f"item-{place}"
