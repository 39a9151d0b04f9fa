"""What one partition's worker needs from outside, as small protocols, and the values that cross them.

The journal is one partition of `decision.audit`: one step a record, read by the rule of `reader.py`. Nothing here
decides; nothing here knows Kafka. `streams/kafka/` implements these protocols, `memory.py` holds their in-memory
twins, and one contract suite tests both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from msgspec import Struct, field

from schemas.vocabulary import Millis
from streams.clock import Clock
from streams.errors import SlotwiseError
from streams.partition.clock_watch import ClockWatch

if TYPE_CHECKING:
    from schemas.decision import Advice, Step, TaskRow
    from schemas.events import TaskPending, Tick
    from schemas.input import Input
    from streams.core.policy.rulebook import Rulebook

#: The `ce_source` of the events that the router writes.
SOURCE = "slotwise/router"


class JournalError(SlotwiseError):
    """The journal cannot be trusted to continue from; a person must look. The message says at what."""


class PartitionError(SlotwiseError):
    """The partition cannot go on; the worker ends and says why."""


# Records and positions ------------------------------------------------------------------------------------------------


class Raw(Protocol):
    """A record as a broker delivers it."""

    @property
    def offset(self) -> int:
        """Place in its partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; negative where the record has none."""

    @property
    def key(self) -> bytes | None:
        """As sent."""

    @property
    def value(self) -> bytes | None:
        """As sent."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """As sent."""


class Entry(Struct, frozen=True, gc=False):
    """One record of the journal."""

    offset: int
    value: bytes


class DeadLetter(Struct, frozen=True, gc=False):
    """An input that was refused, on its way to the dead-letter topic."""

    #: Index into `vocabulary.INPUT_TOPICS`.
    topic: int
    raw: Raw
    reason: str


class Forward(Struct, frozen=True, gc=False):
    """An input on its way to the partition of its key."""

    #: Index into `vocabulary.INPUT_TOPICS`.
    topic: int
    raw: Raw
    #: The partition of its key.
    to: int


class JournalPosition(Struct, frozen=True, gc=False):
    """A place in a journal: the next record is at `offset`, the next step is number `seq`."""

    offset: int
    seq: int


class Checkpoint(Struct, frozen=True, gc=False):
    """The state of a partition as it was before the step at `position`."""

    position: JournalPosition
    at_ms: int
    chunks: tuple[bytes, ...]


# The state machine ----------------------------------------------------------------------------------------------------


#: Gives an unfinished task by pool and id.
FindTask: TypeAlias = "Callable[[str, str], TaskRow | None]"


class Projection(Protocol):
    """What steps are applied to, one after the other."""

    @property
    def seq(self) -> int:
        """Number of the next step."""

    def apply(self, step: Step, /) -> None:
        """Apply a confirmed step to the state."""


class StateMachine(Projection, Protocol):
    """The router, as far as a worker knows it: `streams.core.router.Router`, or a toy in tests."""

    #: Row changes applied since the worker last set it to 0.
    changes: int

    @property
    def rulebook(self) -> Rulebook:
        """The rulebook in force; another one after a step that activates it."""

    @property
    def now_ms(self) -> Millis:
        """Latest time so far."""

    @property
    def rows(self) -> int:
        """Number of live rows."""

    def handle(self, inputs: Sequence[Input], /) -> Step:
        """Decide without changing anything."""

    def position(self, topic: int, /) -> int:
        """Offset of the last input handled, -1: none."""

    def task(self, pool: str, task_id: str, /) -> TaskRow | None:
        """Return an unfinished task."""

    def due_ms(self) -> Millis | None:
        """When something falls due without an input."""

    def snapshot(self) -> Iterable[bytes]:
        """Return the present state, in chunks."""


_Machine_co = TypeVar("_Machine_co", bound=Projection, covariant=True)


class MakeStateMachine(Protocol[_Machine_co]):
    """Makes the state machine of a partition: empty, or from the chunks of a checkpoint."""

    def __call__(self, chunks: Iterable[bytes] | None, /) -> _Machine_co:
        """Make it."""


# The ports ------------------------------------------------------------------------------------------------------------


class Journal(Protocol):
    """The steps of one partition."""

    async def append(self, value: bytes) -> int:
        """Write one record durably and return its offset. When this raises, the outcome is unknown."""

    async def bounds(self) -> tuple[int, int]:
        """Return the first offset still kept and the offset that the next record will have."""

    def read(self, start: int, end: int) -> AsyncGenerator[Sequence[Entry], None]:
        """Yield the records from `start` up to, not including, `end`, in runs."""


class Inputs(Protocol):
    """A second way to the input topics of one partition, for what the first did not deliver."""

    async def read(self, topic: int, start: int, end: int, limit: int) -> Sequence[Raw]:
        """Return the records that exist from `start` up to, not including, `end`; the first `limit` of them."""


class DeadLetters(Protocol):
    """Where refused inputs go."""

    async def write(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Return when all of them are durable."""


class Forwards(Protocol):
    """Where inputs go whose key belongs to another partition: the same topic, with the same key, value and time.

    They keep their headers, with the one of `streams/partition/forwarding.py` behind them.
    """

    async def write(self, forwards: Sequence[Forward]) -> None:
        """Return when all of them are durable; those of one topic and partition are in the order given."""


class Ticks(Protocol):
    """The worker's own way to say that time passes."""

    async def send(self, tick: Tick, now_ms: Millis) -> None:
        """Put the tick into this partition of `fleet.control`."""


class Checkpoints(Protocol):
    """Snapshots of a partition's state, for starting faster than from the journal's beginning; and the journal's id."""

    @property
    def journal_id(self) -> str | None:
        """Id of the journal that they are of, as of the last load; None: none is kept yet."""

    async def keep(self, journal_id: str) -> None:
        """Keep the journal's id."""

    async def load(self) -> Sequence[Checkpoint]:
        """Return the complete ones, newest first."""

    async def save(self, position: JournalPosition, chunks: Iterable[bytes]) -> None:
        """Write a snapshot without holding up the event loop."""


class Behind(Struct, frozen=True, gc=False):
    """How far something is behind what it reads."""

    records: int
    #: Age of the oldest of them; 0: there is none.
    seconds: float


class Follower(Protocol):
    """Takes confirmed steps, in order, while the worker works: the publisher."""

    async def start(self, base: JournalPosition, end: JournalPosition, find: FindTask) -> None:
        """Go on from where it got to; up to `end` it reads the journal, which the worker knows from `base` on.

        `find` gives the tasks that are not finished at present.
        """

    def offer(self, offset: int, step: Step) -> bool:
        """Take one confirmed step; False: there is no room."""

    async def room(self) -> None:
        """Return when there is room again."""

    def lag(self, now_ms: int) -> Behind:
        """Return what it has not followed, as far as it knows; the age of a step is that of its last input."""

    async def failed(self) -> None:
        """Wait until it ends by an error, and raise it; return when it was stopped."""

    async def stop(self) -> None:
        """Finish what was offered, remember how far it got."""


class Advisor(Protocol):
    """Asks the plug-ins of one rulebook: `streams.plugins.advisor.Advisor`."""

    async def advise(self, tasks: Sequence[TaskPending], /) -> Sequence[Advice | None]:
        """Return their advice on each task, in order. Takes no longer than the policy allows; never blocks the loop."""


class Limits(Struct, frozen=True, kw_only=True):
    """The settings that a worker obeys."""

    step_inputs_max: int
    step_bytes_max: int
    round_ms_min: int
    now_ahead_ms_max: int
    checkpoint_changes_min: int
    journal_retention_hours: float


async def _no_id() -> None:
    """Know no id."""


class Ports(Struct, frozen=True, kw_only=True):
    """Everything outside that a worker touches, so that a test can replace all of it."""

    journal: Journal
    inputs: Inputs
    dead_letters: DeadLetters
    forwards: Forwards
    ticks: Ticks
    checkpoints: Checkpoints
    clock: Clock
    follower: Follower
    #: The partition that a key belongs to.
    home: Callable[[bytes], int]
    #: Called when a topic's inbox is full (True) and when it has room again (False).
    pressure: Callable[[int, bool], None]
    #: Asks the plug-ins that a rulebook names; None where it names none.
    advisor: Callable[[Rulebook], Advisor | None] = lambda _: None
    #: Id of the journal that the publisher has followed; None: none is kept.
    published_journal: Callable[[], Awaitable[str | None]] = field(default_factory=lambda: _no_id)
    #: Gets the difference of this process's clock and the broker's.
    clock_watch: ClockWatch = field(default_factory=ClockWatch)
    #: The rules of this worker's files, to warn when an activated policy overrides them.
    rulebook: Rulebook | None = None
