"""The dispatcher's side of the contract: what a conversation sends, starts and stops, by docs/dispatcher.md."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.codec import read_event, write_event
from schemas.events import Outcome, SlotFreed, TaskRouted, WorkCancelled
from schemas.vocabulary import Millis, from_millis
from streams.client.conversation import (
    AHEAD_MAX,
    LEAVING_TTL_S,
    Action,
    Conversation,
    Send,
    SlotSpec,
    Start,
    Stop,
    Work,
)

HAIKU = SlotSpec(slot_id="haiku-1", pool="main", model="haiku")
SONNET = SlotSpec(slot_id="sonnet-1", pool="main", model="sonnet", account="acct-2")
LIVELY = replace(HAIKU, ttl_s=30.0)
T0 = Millis(1_795_255_200_000)
LEASE_S = 600


def at(s: float) -> Millis:
    """So many seconds after the beginning."""
    return Millis(T0 + round(s * 1000))


def routed(lease: int = 1, slot: SlotSpec = HAIKU, **named: Any) -> TaskRouted:
    """A task for the slot; its lease lasts 10 minutes, by a clock that is a year ahead of the dispatcher's."""
    decided_ms = T0 + 365 * 86_400_000
    fields: dict[str, Any] = {
        "decision_id": f"d-{lease}", "task_id": f"t-{lease}", "pool": slot.pool, "slot_id": slot.slot_id,
        "model": slot.model, "tier": 1, "lease": lease, "lease_renewals_max": 2, "max_tokens": 1024, "reason": "Why.",
        "attempt": 1, "decided_at": from_millis(decided_ms),
        "lease_expires_at": from_millis(decided_ms + LEASE_S * 1000), "mode": "live", "policy": "p", "catalog": "c",
    }  # fmt: skip
    return TaskRouted(**(fields | named))


def stop_of(lease: int = 1, reason: str = "cancelled", slot: SlotSpec = HAIKU) -> WorkCancelled:
    """A record of task.cancelled."""
    return WorkCancelled(
        task_id=f"t-{lease}",
        pool=slot.pool,
        slot_id=slot.slot_id,
        lease=lease,
        reason_code=reason,  # type: ignore[arg-type]
        at=from_millis(T0),
    )


class Talk:
    """A conversation with one slot in service, and everything that it sent."""

    def __init__(self, *slots: SlotSpec) -> None:
        self.conversation = Conversation()
        self.sent: list[SlotFreed] = []
        self.started: list[Work] = []
        self.stopped: list[tuple[str, str]] = []
        for slot in slots or (HAIKU,):
            self.take(self.conversation.announce(slot, T0))

    def take(self, actions: list[Action], *, acknowledged: bool = True) -> list[str]:
        """Do what is to be done; return it in a word each."""
        words: list[str] = []
        for action in actions:
            match action:
                case Send(event):
                    self.sent.append(event)
                    if acknowledged:
                        self.conversation.acknowledged(action)
                    words.append("announce" if event.state == "free" and event.lease is None else event.state)
                case Start(work):
                    self.started.append(work)
                    words.append(f"start {work.task.task_id}")
                case Stop(work, reason):
                    self.stopped.append((work.task.task_id, reason))
                    words.append(f"stop {work.task.task_id}: {reason}")
        return words

    def routed(self, *args: Any, s: float = 0.0, **named: Any) -> list[str]:
        """A task comes."""
        return self.take(self.conversation.routed(routed(*args, **named), at(s)))

    def cancelled(self, *args: Any, **named: Any) -> list[str]:
        """A request to stop comes."""
        return self.take(self.conversation.cancelled(stop_of(*args, **named)))

    def due(self, s: float, *, acknowledged: bool = True) -> list[str]:
        """Time has passed."""
        return self.take(self.conversation.due(at(s)), acknowledged=acknowledged)

    def end(self, status: str | None = "success", s: float = 0.0, of: int = -1) -> list[str]:
        """Work is over."""
        work = self.started[of]
        outcome = None if status is None else Outcome(task_id=work.task.task_id, status=status)  # type: ignore[arg-type]
        return self.take(self.conversation.end(work, outcome, at(s)))

    def next_s(self) -> float | None:
        """When something is due, in seconds from the beginning."""
        due_ms = self.conversation.due_ms()
        return None if due_ms is None else (due_ms - T0) / 1000


def test_a_slot_is_announced_as_it_is() -> None:
    """Model and account, no lease, no outcome: and the router can read it."""
    talk = Talk(SONNET)
    (event,) = talk.sent
    assert event == SlotFreed(slot_id="sonnet-1", pool="main", at=from_millis(T0), model="sonnet", account="acct-2")
    record = write_event("slot.freed", event, ce_id="1", source="test", time_ms=T0)
    assert read_event("slot.freed", record.key, record.value, record.headers) == event


def test_a_task_is_started_once_and_its_end_frees_the_slot_with_the_lease() -> None:
    """Done and free again are one report."""
    talk = Talk()
    assert talk.routed(7) == ["start t-7"]
    assert talk.routed(7) == [], "a repetition"
    assert talk.end("success", s=30) == ["free"]
    assert talk.sent[-1].lease == 7
    assert talk.sent[-1].outcome == Outcome(task_id="t-7", status="success")
    assert talk.end("failure", s=31) == [], "an end is reported once"
    assert talk.routed(7, s=32) == [], "a repetition after the end"


def test_what_is_stale_or_of_another_slot_is_ignored() -> None:
    """A lease number only grows; pools have slots of the same name."""
    talk = Talk()
    talk.routed(7)
    talk.end()
    assert talk.routed(6) == []
    assert talk.routed(8, slot=SONNET) == []
    assert talk.routed(8, slot=replace(HAIKU, pool="other")) == []
    assert talk.routed(8) == ["start t-8"]


def test_nothing_is_taken_before_the_announcement() -> None:
    """What is for the process before this one, which had the same slot."""
    conversation = Conversation()
    assert conversation.routed(routed(7), T0) == []
    assert conversation.cancelled(stop_of(7)) == []


def test_each_report_of_a_slot_is_later_than_the_one_before() -> None:
    """Also where the clock stands still or is set back: the router ignores an announcement that is not."""
    talk = Talk()
    talk.routed(1)
    talk.end(s=0)
    talk.routed(2, s=-3600)
    talk.end(s=-3600)
    talk.take(talk.conversation.announce(HAIKU, at(-7200)))
    assert [event.at for event in talk.sent] == [from_millis(T0 + n) for n in range(4)]


def test_a_lease_is_renewed_half_way_as_often_as_it_may_be() -> None:
    """Twice here; then it ends a whole length after the last renewal, and the work is to stop."""
    talk = Talk()
    talk.routed(1)
    assert talk.due(299) == []
    assert talk.next_s() == 300
    assert talk.due(300) == ["working"]
    assert talk.sent[-1] == SlotFreed(
        slot_id="haiku-1", pool="main", at=from_millis(at(300)), model="haiku", lease=1, state="working"
    )
    assert talk.next_s() == 600
    assert talk.due(600) == ["working"]
    assert talk.next_s() == 1200
    assert talk.due(1199) == []
    assert talk.due(1200) == ["stop t-1: lease_lost"]
    assert talk.next_s() is None


def test_a_renewal_that_is_not_acknowledged_is_given_again_and_does_not_count() -> None:
    """The dispatcher may be cut off: then another slot has the task when the lease is over."""
    talk = Talk()
    talk.routed(1)
    assert talk.due(300, acknowledged=False) == ["working"]
    assert talk.due(374, acknowledged=False) == []
    assert talk.due(375, acknowledged=False) == ["working"]
    assert talk.due(600, acknowledged=False) == ["stop t-1: lease_lost"]


def test_a_late_acknowledgement_counts_from_when_the_renewal_was_sent() -> None:
    """The lease lasts at least a whole length from then on."""
    talk = Talk()
    talk.routed(1)
    (renewal,) = talk.conversation.due(at(300))
    assert isinstance(renewal, Send)
    talk.conversation.acknowledged(renewal)
    talk.conversation.acknowledged(renewal)
    assert talk.due(600) == ["working"], "of two renewals, one is left: an acknowledgement counts once"
    assert talk.next_s() == 1200


def test_a_lease_without_renewals_ends_by_itself() -> None:
    """No report is sent for it."""
    talk = Talk()
    talk.routed(1, lease_renewals_max=0)
    assert talk.next_s() == LEASE_S
    assert talk.due(LEASE_S) == ["stop t-1: lease_lost"]


def test_the_length_of_a_lease_does_not_depend_on_the_clocks() -> None:
    """It counts from the moment in which the task came."""
    talk = Talk()
    talk.routed(1, s=50, lease_renewals_max=0)
    assert talk.due(649) == []
    assert talk.due(650) == ["stop t-1: lease_lost"]


def test_cancelled_work_stops_once_and_is_freed_as_cancelled() -> None:
    """The slot is leased until then: its lease and an outcome."""
    talk = Talk()
    talk.routed(3)
    assert talk.cancelled(3) == ["stop t-3: cancelled"]
    assert talk.cancelled(3) == []
    assert talk.end(None, s=5) == ["free"]
    assert (talk.sent[-1].lease, talk.sent[-1].outcome) == (3, Outcome(task_id="t-3", status="cancelled"))


def test_cancelled_work_that_takes_its_time_renews_its_lease() -> None:
    """Otherwise the slot would be lost before it is freed."""
    talk = Talk()
    talk.routed(3)
    talk.cancelled(3)
    assert talk.due(300) == ["working"]


def test_a_stop_that_matches_nothing_is_ignored() -> None:
    """It is over already, or of another slot."""
    talk = Talk()
    talk.routed(3)
    talk.end()
    assert talk.cancelled(3) == []
    assert talk.cancelled(2) == []
    talk.routed(4)
    assert talk.cancelled(3) == []
    assert talk.cancelled(4, slot=SONNET) == []


def test_work_of_a_lost_lease_is_not_reported_as_cancelled() -> None:
    """The task is pending again: the slot announces itself, whatever the stopped work says of itself."""
    for status in (None, "cancelled"):
        talk = Talk()
        talk.routed(3)
        assert talk.cancelled(3, "lease_lost") == ["stop t-3: lease_lost"]
        assert talk.due(300) == [], "a renewal would take the task up again"
        assert talk.end(status, s=301) == ["announce"]
        assert talk.routed(4) == ["start t-4"]


def test_a_result_that_is_there_already_goes_with_its_lease_however_late() -> None:
    """The work is done, and counts if no other slot was given the task."""
    talk = Talk()
    talk.routed(3)
    talk.cancelled(3, "lease_lost")
    assert talk.end("success") == ["free"]
    assert talk.sent[-1].lease == 3


def test_a_retired_slot_announces_nothing() -> None:
    """It is out of its pool; also its heartbeats end."""
    talk = Talk(LIVELY)
    talk.routed(3, slot=LIVELY)
    assert talk.cancelled(3, "slot_retired") == ["stop t-3: slot_retired"]
    assert talk.end(None) == []
    assert talk.next_s() is None


def test_a_stop_that_came_before_its_task_is_obeyed() -> None:
    """Two topics have no common order: the work is never begun."""
    talk = Talk()
    assert talk.cancelled(5) == []
    assert talk.routed(5) == ["free"]
    assert talk.sent[-1].outcome == Outcome(task_id="t-5", status="cancelled")
    assert talk.cancelled(6, "lease_lost") == []
    assert talk.routed(6) == ["announce"]
    assert talk.routed(7) == ["start t-7"]


def test_stops_of_tasks_that_never_come_are_forgotten() -> None:
    """Their number has a limit, the oldest goes first."""
    talk = Talk()
    for lease in range(1, AHEAD_MAX + 2):
        talk.cancelled(lease)
    assert talk.routed(1) == ["start t-1"]


def test_a_greater_lease_ends_the_work_before_it() -> None:
    """The router gives a slot one task: the new one is begun when the old one has stopped."""
    talk = Talk()
    talk.routed(3)
    assert talk.routed(4, s=10) == ["stop t-3: lease_lost"]
    sent = len(talk.sent)
    assert talk.end(None, s=20) == ["start t-4"]
    assert len(talk.sent) == sent, "the router would ignore a report under the older lease"
    assert talk.next_s() == 310
    talk.routed(5)
    talk.cancelled(5)
    assert talk.end(None, s=30) == ["announce"], "what was to follow was cancelled"


def test_given_up_work_makes_its_task_pending_again() -> None:
    """An announcement says that the slot has forgotten it."""
    talk = Talk()
    talk.routed(3)
    assert talk.end(None) == ["announce"]


def test_a_slot_with_the_heartbeat_rule_reports_three_times_within_it() -> None:
    """`idle` while it is free, `working` while it has a task, which renews its lease behind the first third only."""
    talk = Talk(LIVELY)
    assert talk.next_s() == 10
    assert talk.due(10) == ["idle"]
    assert talk.sent[-1] == SlotFreed(
        slot_id="haiku-1", pool="main", at=from_millis(at(10)), model="haiku", state="idle", ttl_s=30.0
    )
    talk.routed(1, s=12, slot=LIVELY)
    assert [talk.due(s) for s in range(22, 1012, 10)] == [["working"]] * 99
    assert talk.due(1012) == ["stop t-1: lease_lost"], "renewed at 212 and at 412, for 600 s"
    talk.end(None, s=1015)
    assert talk.next_s() == 1025


def test_a_free_slot_without_the_rule_says_now_and_then_that_it_is_there() -> None:
    """For a router that has started over and knows of no slot; a renewal is due while it works, as ever."""
    talk = Talk()
    assert [(talk.next_s(), talk.due(s)) for s in (60, 120)] == [(60, ["idle"]), (120, ["idle"])]
    assert (talk.sent[-1].model, talk.sent[-1].ttl_s) == ("haiku", None)
    talk.routed(s=130)
    assert talk.next_s() == 430


def test_a_router_that_has_started_over_counts_leases_from_one() -> None:
    """What was given later is new, whatever its number; a repetition and a stale one are known by their time."""
    talk = Talk()
    talk.routed(5)
    talk.cancelled(7)
    talk.end(s=10)
    later = from_millis(T0 + 366 * 86_400_000)
    assert talk.routed(4, s=15) == [], "of before, and late"
    assert talk.routed(1, s=20, decided_at=later, task_id="t-new") == ["start t-new"]
    assert talk.routed(1, s=21, decided_at=later, task_id="t-new") == []
    assert talk.cancelled(1) == ["stop t-new: cancelled"]
    talk.end("cancelled", s=22)
    assert talk.routed(7, s=30, decided_at=later) == ["start t-7"], "another lease 7 was cancelled"


def test_work_of_before_is_lost_when_a_router_that_has_started_over_gives_its_slot_a_task() -> None:
    """It knows nothing of it."""
    talk = Talk()
    talk.routed(5)
    later = from_millis(T0 + 366 * 86_400_000)
    assert talk.routed(2, s=20, decided_at=later) == ["stop t-5: lease_lost"]
    assert talk.end(None, s=21) == ["start t-2"]


def test_a_slot_that_left_is_reported_no_more() -> None:
    """Neither heartbeats nor tasks."""
    talk = Talk(LIVELY)
    assert talk.take(talk.conversation.leave(LIVELY, at(5))) == ["leaving"]
    assert talk.sent[-1].ttl_s == LEAVING_TTL_S, "a second later what was routed to it is lost"
    assert talk.take(talk.conversation.leave(LIVELY, at(6))) == []
    assert talk.next_s() is None
    assert talk.routed(1, slot=LIVELY) == []


def test_slots_do_not_disturb_each_other() -> None:
    """Each has leases, times and work of its own."""
    talk = Talk(HAIKU, SONNET)
    assert talk.routed(1) == ["start t-1"]
    assert talk.routed(1, s=100, slot=SONNET) == ["start t-1"]
    assert talk.cancelled(1, slot=SONNET) == ["stop t-1: cancelled"]
    assert talk.due(300) == ["working"]
    assert talk.sent[-1].slot_id == "haiku-1"
    assert talk.conversation.work(HAIKU) == talk.started[0]


def test_a_record_has_the_same_identity_each_time_it_is_sent() -> None:
    """By it the router recognises a repetition, whatever the clocks say."""
    conversation = Conversation()
    (first,) = conversation.announce(HAIKU, T0)
    (second,) = conversation.announce(HAIKU, T0)
    assert isinstance(first, Send)
    assert isinstance(second, Send)
    assert first.ce_id == f"haiku-1:{T0}"
    assert second.ce_id != first.ce_id


@pytest.mark.parametrize("state", ["idle", "working"])
def test_only_heartbeats_need_not_arrive(state: str) -> None:
    """The next one takes their place; what frees or announces a slot is sent again."""
    talk = Talk(LIVELY)
    if state == "working":
        talk.routed(1, slot=LIVELY)
    (heartbeat,) = talk.conversation.due(at(10))
    assert isinstance(heartbeat, Send)
    assert (heartbeat.event.state, heartbeat.again) == (state, False)
    (announcement,) = talk.conversation.announce(LIVELY, at(11))
    assert isinstance(announcement, Send)
    assert announcement.again


def test_a_slot_that_is_withdrawn_takes_no_more_and_finishes_what_it_has() -> None:
    """It says so once; renewals go on while it works, nothing is reported after its end, and no loss announces it."""
    talk = Talk(LIVELY)
    talk.routed(slot=LIVELY)
    assert talk.take(talk.conversation.withdraw(LIVELY, at(1))) == ["leaving"]
    assert (talk.sent[-1].state, talk.sent[-1].lease, talk.sent[-1].outcome) == ("leaving", None, None)
    assert talk.due(20) == ["working"]
    outcome = Outcome(task_id="t-1", status="success")
    assert talk.take(talk.conversation.end(talk.started[0], outcome, at(30))) == ["free"]
    assert talk.conversation.due_ms() is None


def test_a_withdrawn_slot_whose_lease_is_lost_is_not_announced() -> None:
    """That would bring it back."""
    talk = Talk()
    talk.routed()
    talk.take(talk.conversation.withdraw(HAIKU, at(1)))
    talk.take(talk.conversation.cancelled(stop_of(reason="lease_lost")))
    assert talk.take(talk.conversation.end(talk.started[0], None, at(2))) == []


def test_what_was_routed_before_a_slot_was_withdrawn_is_taken() -> None:
    """The router had not read that it leaves."""
    talk = Talk()
    talk.take(talk.conversation.withdraw(HAIKU, at(1)))
    assert talk.routed() == ["start t-1"]
    assert talk.conversation.withdraw(SONNET, at(1)) == []
