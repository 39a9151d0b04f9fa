"""Whatever a plug-in answers, what is kept of it can be journaled and read again, and says only what it may."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.decision import Accepted, Step
from schemas.steps import decode_step, encode_step
from schemas.vocabulary import Millis
from streams.core.policy.rulebook import load_rulebook
from streams.plugins.advisor import Plugins
from streams.shipped import shipped
from tests.support.builders import task

BOOK = load_rulebook(
    shipped("catalog.toml"),
    '[plugins]\nscorer = "a"\nstrategies = ["b"]\nrules = ["c"]\ntime_limit_s = 60.0\nbatch_limit_s = 60.0\n'
    'failures_max = 1000\n[strategy]\ndefault = "b"\n',
)
MODELS = st.sampled_from(sorted(BOOK.models))
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=5), st.text(st.characters(), max_size=20)
)
ANSWERS = st.one_of(ODD, MODELS, st.lists(st.one_of(MODELS, ODD)), st.lists(MODELS), st.tuples(MODELS, MODELS))


@given(ANSWERS, ANSWERS, ANSWERS)
def test_only_what_may_be_said_is_kept_and_all_of_it_can_be_journaled(score: Any, order: Any, sentence: Any) -> None:
    """A finite number, models of the catalogue, printable sentences; else the plug-in is among those that failed."""
    plugins = Plugins(lambda _, name: lambda *_: {"a": score, "b": order, "c": sentence}[name])
    advisor = plugins.advisor(BOOK)
    assert advisor is not None
    (advice,) = asyncio.run(advisor.advise([task()]))
    plugins.close()
    assert advice is not None, "a strategy has answered or failed"
    assert advice.ev is None or math.isfinite(advice.ev)
    assert set(advice.ranking) | advice.refused.keys() <= BOOK.models.keys()
    assert all(reason.isprintable() for reason in advice.refused.values())
    assert ("a" in advice.failed) == (advice.ev is None and score is not None)
    assert ("b" in advice.failed) == (advice.strategy is None)
    assert ("c" in advice.failed) == (not advice.refused and sentence is not None)
    step = Step(partition=0, seq=0, now_ms=Millis(1), policy="p", catalog="c", inputs=(Accepted(0, 0, Millis(1)),),
                advice=((0, advice),))  # fmt: skip
    assert decode_step(encode_step(step)) == step
