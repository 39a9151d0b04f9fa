"""The tests that are tried on mutants."""

from __future__ import annotations

from typing import Final

#: What tells whether the policy is as it should be, in milliseconds a test. Anything with a server, a clock or a
#: random story is left out: a mutant that only those notice deserves an example of its own.
TESTS: Final = (
    "tests/golden",
    *(
        f"tests/unit/test_{name}.py"
        for name in (
            "complexity",
            "credit_groups",
            "difference",
            "due",
            "ev",
            "free_view",
            "gates",
            "objective",
            "pool_index",
            "round",
            "router_advice",
            "router_controls",
            "router_escalation",
            "router_premium",
            "router_rounds",
            "router_rows",
            "router_slots",
            "router_steps",
            "router_tasks",
            "router_thrown_away",
            "router_waits",
            "router_within_a_step",
            "rulebook",
            "rules",
            "score",
            "sentences",
            "slot_index",
            "static_fallback",
            "strategy_policy",
            "swaps",
            "undo",
            "waiting_index",
            "why_not",
        )
    ),
)
