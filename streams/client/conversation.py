"""The dispatcher's side of the contract (docs/dispatcher.md) for any number of slots: pure, time is an argument.

What happens is handed in, and each call returns what is to be done for it, in order:

    conversation = Conversation()
    conversation.announce(slot, now_ms)          a slot comes into service: [Send]
    conversation.routed(event, now_ms)           a record of task.routed: [Start], or nothing where it concerns no slot
    conversation.cancelled(event)                a record of task.cancelled: [Stop], or nothing
    conversation.due(now_ms)                     what fell due: renewals, heartbeats, leases that ended
    conversation.due_ms()                        when to call `due` next
    conversation.acknowledged(send)              the broker has a record: only then a renewal counts
    conversation.end(work, outcome, now_ms)      work is over: [Send], and the next [Start] where one came meanwhile
    conversation.leave(slot, now_ms)             the slot goes, and what it works on is pending again: [Send]
    conversation.withdraw(slot, now_ms)          the slot takes no more work: [Send]; what it has it may finish

A `Send` is to be sent again, as it is, until it is acknowledged, unless it is a heartbeat (`Send.again`). Work is begun
at its `Start`. At a `Stop` it is ended, which may take its time, and then reported as over by `end`: with the outcome
where there is one, else with None. Until then its slot gets no other work. A lease that could not be renewed in time
ends here too: the task may run elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from schemas.events import Outcome, SlotFreed, TaskRouted, WorkCancelled
from schemas.vocabulary import Millis, SlotReport, StopReason, from_millis, to_millis

#: Heartbeats within the time after which a silent slot is lost.
HEARTBEATS: Final = 3
#: Time between two reports of a free slot that asked for no heartbeat rule: by them a router that has started over
#: learns of it.
IDLE_MS: Final = 60_000
#: The shortest time after which a silent slot is lost: that of one that leaves, whose task so waits no longer.
LEAVING_TTL_S: Final = 1.0
#: While more than this part of a lease is left, a report of a slot with the heartbeat rule renews nothing.
EARLY_LEFT, EARLY_PARTS = 2, 3
#: A renewal that is not acknowledged is given again after this part of the time between two, at least a second.
AGAIN: Final = 4
AGAIN_MS_MIN: Final = 1_000
#: Leases that were cancelled before their task came, by slot: topics have no common order.
AHEAD_MAX: Final = 16


class SlotSpec(Struct, frozen=True, kw_only=True):
    """A slot as it is announced."""

    slot_id: str
    pool: str
    #: Id of a model in the catalogue.
    model: str
    account: str | None = None
    #: The slot is lost when nothing comes from it for so many seconds; None: no silence counts.
    ttl_s: float | None = None


class Work(Struct, frozen=True):
    """A task on a slot, under one lease."""

    slot: SlotSpec
    task: TaskRouted

    @property
    def lease_ms(self) -> int:
        """Length of the lease, which has no need of a clock that agrees with the router's."""
        return max(0, to_millis(self.task.lease_expires_at) - to_millis(self.task.decided_at))


class Send(Struct, frozen=True):
    """A report to send on `slot.freed`."""

    event: SlotFreed
    #: Whether it is to be sent again until it is acknowledged; else the next one takes its place.
    again: bool = True

    @property
    def ce_id(self) -> str:
        """Its identity, the same each time it is sent: a slot gives no `at` twice."""
        return f"{self.event.slot_id}:{to_millis(self.event.at)}"


class Start(Struct, frozen=True):
    """Work to begin."""

    work: Work


class Stop(Struct, frozen=True):
    """Work to end."""

    work: Work
    reason: StopReason


Action: TypeAlias = Send | Start | Stop


class _Slot:
    """What is known of one slot."""

    def __init__(self, spec: SlotSpec) -> None:
        self.spec = spec
        #: Time of the last report: each is later than the one before.
        self.at_ms = 0
        #: The last lease that was taken, and when the router gave it, by its clock.
        self.lease = 0
        self.given_ms = 0
        self.work: Work | None = None
        #: Why the work is to stop.
        self.stopping: StopReason | None = None
        #: Work under a greater lease, which came before the end of `work`, and when it came.
        self.following: tuple[Work, Millis] | None = None
        #: End of the lease as far as it is certain.
        self.ends_ms = 0
        self.renewals_left = 0
        #: When the next renewal or heartbeat is due.
        self.report_ms: int | None = None
        #: The last renewal that was sent: its `at`, and when that was.
        self.renewal: tuple[str, int] | None = None
        #: Leases above `lease` that were cancelled.
        self.ahead: dict[int, StopReason] = {}
        #: It is out of its pool, or will be when its work is over: it is announced no more.
        self.retired = False

    def send(self, now_ms: int, state: SlotReport = "free", *, again: bool = True, **fields: object) -> Send:
        self.at_ms = max(now_ms, self.at_ms + 1)
        spec = self.spec
        event = SlotFreed(
            slot_id=spec.slot_id,
            pool=spec.pool,
            at=from_millis(self.at_ms),
            model=spec.model,
            account=spec.account,
            ttl_s=spec.ttl_s,
            state=state,
            **fields,  # type: ignore[arg-type]
        )
        return Send(event, again)

    def is_new(self, event: TaskRouted) -> bool:
        """Whether a task is no repetition and not stale: leases only grow, unless the router has started over."""
        return event.lease > self.lease or to_millis(event.decided_at) > self.given_ms

    def heartbeat_ms(self) -> int | None:
        """Return the time between two heartbeats; None: the slot asked for no rule."""
        return None if self.spec.ttl_s is None else max(1, round(self.spec.ttl_s * 1000 / HEARTBEATS))

    def is_renewal(self, sent_ms: int) -> bool:
        """Whether a report renews the lease: early in it one of a slot with the heartbeat rule does not."""
        if self.work is None or self.spec.ttl_s is None:
            return self.work is not None
        return EARLY_PARTS * (self.ends_ms - sent_ms) <= EARLY_LEFT * self.work.lease_ms

    def interval_ms(self) -> int | None:
        """Return the time between two reports of the present; None: none is due."""
        heartbeat_ms = self.heartbeat_ms()
        if self.work is None:
            return None if self.retired else heartbeat_ms or IDLE_MS
        if not self.renewals_left:
            return heartbeat_ms
        half_ms = max(1, self.work.lease_ms // 2)
        return half_ms if heartbeat_ms is None else min(half_ms, heartbeat_ms)

    def report_after(self, now_ms: int) -> None:
        """Let the next report be due an interval from now on."""
        interval_ms = self.interval_ms()
        self.report_ms = None if interval_ms is None else now_ms + interval_ms

    def begin(self, work: Work, now_ms: int) -> Start:
        self.work, self.stopping, self.renewal = work, None, None
        self.renewals_left = work.task.lease_renewals_max
        self.ends_ms = now_ms + work.lease_ms
        self.report_after(now_ms)
        return Start(work)

    def stop(self, work: Work, reason: StopReason) -> Iterator[Stop]:
        if self.stopping is None or (self.stopping == "cancelled" and reason != "cancelled"):
            # A cancelled slot is leased until it is freed, so its lease can be lost as well; the work knows already.
            known, self.stopping = self.stopping, reason
            if known is None:
                yield Stop(work, reason)


class Conversation:
    """See the module. A slot is known by its pool and id."""

    def __init__(self) -> None:
        self._slots: dict[tuple[str, str], _Slot] = {}

    def announce(self, spec: SlotSpec, now_ms: Millis) -> list[Action]:
        """Bring a slot into service, again or for the first time; work that it had is forgotten."""
        slot = self._slots.get((spec.pool, spec.slot_id))
        fresh = _Slot(spec)
        if slot is not None:
            fresh.at_ms, fresh.lease, fresh.given_ms, fresh.ahead = slot.at_ms, slot.lease, slot.given_ms, slot.ahead
        self._slots[spec.pool, spec.slot_id] = fresh
        sent = fresh.send(now_ms)
        fresh.report_after(now_ms)
        return [sent]

    def leave(self, spec: SlotSpec, now_ms: Millis) -> list[Action]:
        """Take a slot out of service, and report it no more.

        What it works on is given up, and what was routed to it already: the last report asks for the shortest heartbeat
        rule, so that a second later the lease is lost.
        """
        slot = self._slots.pop((spec.pool, spec.slot_id), None)
        if slot is None or slot.retired:
            return []
        slot.spec = replace(spec, ttl_s=LEAVING_TTL_S)
        return [slot.send(now_ms, "leaving")]

    def withdraw(self, spec: SlotSpec, now_ms: Millis) -> list[Action]:
        """Take a slot out of service: it finishes what it works on, and what was routed to it already."""
        slot = self._slots.get((spec.pool, spec.slot_id))
        if slot is None:
            return []
        sent = slot.send(now_ms, "leaving")
        slot.retired = True
        slot.report_after(now_ms)
        return [sent]

    def routed(self, event: TaskRouted, now_ms: Millis) -> list[Action]:
        """Take a task that was routed; one of another slot, a repetition and a stale one are ignored."""
        slot = self._slots.get((event.pool, event.slot_id))
        if slot is None or not slot.is_new(event):
            return []
        if event.lease <= slot.lease:
            # What was cancelled ahead was so under leases of before.
            slot.ahead.clear()
        slot.lease, slot.given_ms = event.lease, to_millis(event.decided_at)
        cancelled = slot.ahead.pop(event.lease, None)
        slot.ahead = {lease: reason for lease, reason in slot.ahead.items() if lease > event.lease}
        work = Work(slot.spec, event)
        if slot.work is not None:
            # The router gives a slot one task: the lease before this one has ended, whatever was not received.
            slot.following = (work, now_ms) if cancelled is None else None
            return list(slot.stop(slot.work, "lease_lost"))
        started = slot.begin(work, now_ms)
        if cancelled is None:
            return [started]
        slot.stopping = cancelled
        return self.end(work, None, now_ms)

    def cancelled(self, event: WorkCancelled) -> list[Action]:
        """Take a request to stop; one that matches no work is ignored, or concerns work that is yet to come."""
        slot = self._slots.get((event.pool, event.slot_id))
        if slot is None:
            return []
        if event.lease > slot.lease:
            slot.ahead[event.lease] = event.reason_code
            while len(slot.ahead) > AHEAD_MAX:
                del slot.ahead[next(iter(slot.ahead))]
            return []
        if slot.following is not None and slot.following[0].task.lease == event.lease:
            slot.following = None
            return []
        if slot.work is None or slot.work.task.lease != event.lease:
            return []
        return list(slot.stop(slot.work, event.reason_code))

    def due(self, now_ms: Millis) -> list[Action]:
        """Return what fell due: leases that ended, renewals, heartbeats."""
        found: list[Action] = []
        for slot in self._slots.values():
            found.extend(self._due(slot, now_ms))
        return found

    def due_ms(self) -> int | None:
        """Return when something falls due next; None: nothing will."""
        times = []
        for slot in self._slots.values():
            if slot.work is not None and slot.stopping is None:
                times.append(slot.ends_ms)
            if slot.report_ms is not None and slot.stopping in (None, "cancelled"):
                times.append(slot.report_ms)
        return min(times, default=None)

    def acknowledged(self, send: Send) -> None:
        """Note that the broker has a report: a renewal holds from when it was sent, for the whole length."""
        event = send.event
        slot = self._slots.get((event.pool, event.slot_id))
        if slot is None or slot.work is None or slot.renewal is None or slot.renewal[0] != event.at:
            return
        sent_ms, slot.renewal = slot.renewal[1], None
        if slot.renewals_left and slot.is_renewal(sent_ms):
            slot.renewals_left -= 1
            slot.ends_ms = max(slot.ends_ms, sent_ms + slot.work.lease_ms)
        slot.report_after(sent_ms)

    def end(self, work: Work, outcome: Outcome | None, now_ms: Millis) -> list[Action]:
        """Say that work is over, with its outcome; None where it was stopped and has none.

        Work that was not to stop and has no outcome is given up: its task is pending again.
        """
        slot = self._slots.get((work.slot.pool, work.slot.slot_id))
        if slot is None or slot.work is None or slot.work.task.lease != work.task.lease:
            return []
        reason, following = slot.stopping, slot.following
        slot.work = slot.stopping = slot.following = None
        if following is not None:
            # What is reported under the older lease would be ignored.
            return [slot.begin(*following)]
        if outcome is None and reason == "cancelled":
            outcome = Outcome(task_id=work.task.task_id, status="cancelled")
        elif outcome is not None and outcome.status == "cancelled" and reason not in (None, "cancelled"):
            # The task is wanted, and pending again: it would be over by this.
            outcome = None
        slot.retired = slot.retired or reason == "slot_retired"
        if outcome is not None:
            found: list[Action] = [slot.send(now_ms, lease=work.task.lease, outcome=outcome)]
        else:
            found = [] if slot.retired else [slot.send(now_ms)]
        slot.report_after(now_ms)
        return found

    def work(self, spec: SlotSpec) -> Work | None:
        """Return what a slot works on."""
        slot = self._slots.get((spec.pool, spec.slot_id))
        return None if slot is None else slot.work

    def _due(self, slot: _Slot, now_ms: Millis) -> Iterator[Action]:
        if slot.work is not None and slot.stopping is None and now_ms >= slot.ends_ms:
            yield from slot.stop(slot.work, "lease_lost")
        if slot.report_ms is None or now_ms < slot.report_ms or slot.stopping not in (None, "cancelled"):
            return
        if slot.work is None:
            yield slot.send(now_ms, "idle", again=False)
            slot.report_after(now_ms)
            return
        sent = slot.send(now_ms, "working", again=False, lease=slot.work.task.lease)
        slot.renewal = (sent.event.at, now_ms)
        yield sent
        interval_ms = slot.interval_ms() or AGAIN_MS_MIN
        slot.report_ms = now_ms + max(AGAIN_MS_MIN, interval_ms // AGAIN)
