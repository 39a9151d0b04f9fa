"""The Python client of slotwise, for producers and dispatchers: docs/client.md. `slotwise.fake` needs no broker."""

from streams.client.blocking import Client, Slot, Work
from streams.client.fields import NotAccepted
from streams.client.slots import AsyncSlot, AsyncWork, Cancelled
from streams.client.tasks import AsyncClient, NotFinished, Task
from streams.client.wire import NotSent
from streams.errors import SlotwiseError

__all__ = [
    "AsyncClient",
    "AsyncSlot",
    "AsyncWork",
    "Cancelled",
    "Client",
    "NotAccepted",
    "NotFinished",
    "NotSent",
    "Slot",
    "SlotwiseError",
    "Task",
    "Work",
]
