"""What other rules would have chosen in every recorded situation, the recorded world going on as it did.

After each step the recorded rows are taken over, so one difference does not lead to the next.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from schemas.decision import Decision
from streams.core.policy.rulebook import Rulebook
from streams.replay.continued import ReplayRefused, beginning
from streams.replay.recording import Recording, reported
from streams.replay.world import inputs_of, ticked


def following(recording: Recording, rulebook: Rulebook) -> Iterator[tuple[Decision, Decision | None]]:
    """Yield each recorded choice with that of the rulebook at the same step; None: it chooses no slot there.

    Raises:
        ReplayRefused: the situations are not known, or the rulebook cannot take over what there was in them.
    """
    if recording.is_cut:
        raise ReplayRefused("the journal's first steps are gone, so the situations of its choices are not known.")
    if lacking := sorted(recording.models - rulebook.models.keys()):
        raise ReplayRefused(f"the catalogue lacks {', '.join(lacking)}, which recorded slots have.")
    router = beginning(recording, rulebook)
    for step, occurrences in zip(recording.steps, recording.occurrences, strict=True):
        ends = (reported(work, step.now_ms) for work in step.work)
        said = [*ends, *occurrences] or [ticked(step.now_ms)]
        made = router.handle(inputs_of(router, said, step.now_ms))
        theirs = {(one.pool, one.task_id): one for one in made.decisions if one.outcome == "routed"}
        for one in step.decisions:
            if one.outcome == "routed":
                yield one, theirs.get((one.pool, one.task_id))
        # Percentiles and counted spend follow from the rules; everything else is what happened.
        router.apply(replace(step, seq=router.seq, activated=None, percentiles=made.percentiles, spent=made.spent))
