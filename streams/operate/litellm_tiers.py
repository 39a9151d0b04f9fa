"""LiteLLM's complexity router, run unmodified where LiteLLM is installed: which tier it gives each text.

It reads the text and nothing else. Its classes stand for tiers as its own list of models has them: the small one, the
middle one, and for the two hard classes the strong one.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Collection
from typing import Any, Final

from schemas.vocabulary import Tier

_MODULE: Final = "litellm.router_strategy.complexity_router.complexity_router"
TIERS: Final[dict[str, Tier]] = {"SIMPLE": 1, "MEDIUM": 2, "COMPLEX": 3, "REASONING": 3}


def litellm_tiers(texts: Collection[str]) -> dict[str, Tier] | None:
    """Return the tier of each text; None: LiteLLM, or its complexity router, is not installed here.

    It classifies by its own heuristic and its own settings; only the names of the models are ours.
    """
    # Else its import asks the network for a list of prices, three times.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: Any = importlib.import_module(_MODULE)
            made = module.ComplexityRouter(
                "slotwise", None, complexity_router_config={"tiers": {name: name for name in TIERS}}
            )
    except (ImportError, AttributeError):
        return None
    return {text: TIERS[made.get_model_for_tier(made.classify(text)[0])] for text in sorted(texts)}
