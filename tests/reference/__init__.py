"""The rules of routing said again, slowly: lists, sorts and full scans, to hold the router to.

It shares the events and no other code with the router, reads the numbers from the rules' texts itself, and indexes
nothing. Where the rules leave a choice (which of two equal trades), it says what must hold of any choice and takes
over the router's. One step is one moment for utilisation: a slot given back and taken again in a step was busy
throughout, and one that leaves and comes back in a step keeps its past, until it runs another model.

`partition.py` is the door. `rules.py`, `task.py`, `slot.py`, `conditions.py` and `money.py` are what there is;
`gates.py`, `score.py` and `service.py` say who may use what, how good it is, and who takes what; `pool.py` is what
events do.
"""

from __future__ import annotations

from tests.reference.gates import GATES
from tests.reference.partition import ReferencePartition
from tests.reference.pool import ReferencePool
from tests.reference.service import Choice
from tests.reference.slot import Slot

__all__ = ["GATES", "Choice", "ReferencePartition", "ReferencePool", "Slot"]
