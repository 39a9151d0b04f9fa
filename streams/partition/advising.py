"""Asks the plug-ins of the rulebook in force about tasks, once: their advice is in the journal from then on."""

from __future__ import annotations

import logging
from collections.abc import Callable

from schemas.events import TaskPending
from streams import metrics
from streams.core.policy.rulebook import Rulebook
from streams.partition.ports import Advisor
from streams.partition.received import Received

_log = logging.getLogger(__name__)


class Advising:
    """The advice of one partition; `advisor_of` gives who asks the plug-ins of a rulebook, None where it has none."""

    def __init__(self, partition: int, advisor_of: Callable[[Rulebook], Advisor | None]) -> None:
        self._partition = partition
        self._advisor_of = advisor_of
        self._rulebook: Rulebook | None = None
        self._advisor: Advisor | None = None

    async def advise(self, received: list[Received], rulebook: Rulebook) -> list[Received]:
        """Return the same records, the tasks among them with their advice."""
        if rulebook is not self._rulebook:
            self._rulebook, self._advisor = rulebook, self._advisor_of(rulebook)
        tasks = [one.event for one in received if isinstance(one.event, TaskPending)]
        if self._advisor is None or not tasks:
            return received
        try:
            advice = iter(await self._advisor.advise(tasks))
        except Exception:  # noqa: BLE001 - it promises not to raise; a bug there must not stop the stream
            _log.exception("partition %d: asking the plug-ins failed; decided without them", self._partition)
            metrics.INVARIANT_VIOLATIONS.labels("advisor_raised").inc()
            return received
        return [one._replace(advice=next(advice)) if isinstance(one.event, TaskPending) else one for one in received]
