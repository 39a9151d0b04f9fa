"""Records and snapshots of layout 1 are read as layout 2: a held slot is leased, a held task is delayed."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from schemas.decision import ControlTaken, SlotRow, Step, TaskChanged, TaskRow
from schemas.steps import decode_step, decode_step_by, encode_step, present_step
from schemas.vocabulary import Millis
from streams.core.router import Router
from streams.core.state.partition import SnapshotVersionError
from streams.sinks.audit_step import read_audit_step
from tests.support.builders import START_MS, step, task
from tests.support.router_rig import RouterRig, picture

#: Text that looks like a state, or is the word, wherever a producer may write it.
TEXT = '"state":"held"'


class SlotsOnly(msgspec.Struct, frozen=True):
    """A part of a step."""

    slots: tuple[SlotRow, ...] = ()


def layout_1(now: Step) -> bytes:
    """Write a step as the version before did."""
    raw = encode_step(now)
    assert raw.startswith(b'{"v":2,')
    return (
        raw.replace(b'{"v":2,', b'{"v":1,')
        .replace(b'"state":"leased"', b'"state":"held"')
        .replace(b'"state":"delayed"', b'"state":"held"')
    )


def stepped() -> Step:
    """A step with a leased slot, a running task, and delayed ones wherever a step holds tasks."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("held"))
    rig.hand_in(task("later", title=TEXT, not_before_ms=START_MS + 90_000))
    pool = rig.router.state.pool("main")
    delayed: TaskRow = pool.tasks["later"]
    assert delayed.status.state == "delayed"
    event = msgspec.Raw(b'{"state":"held"}')
    return replace(
        step(),
        tasks=(delayed, pool.tasks["held"]),
        dead=(delayed,),
        tasks_changed=(TaskChanged(pool="main", task_id="later", status=delayed.status),),
        slots=tuple(pool.slots.values()),
        controls=(ControlTaken(control_id="c-1", at_ms=Millis(1), kind="pool.policy", event=event),),
    )


def test_a_step_of_layout_1_is_the_same_step_in_the_new_words() -> None:
    """Also where its fields come in another order; texts of producers and operators stay as they are."""
    want = stepped()
    old = layout_1(want)
    assert old.count(b'"held"') > 4
    assert decode_step(old) == want
    fields = msgspec.json.decode(old)
    assert decode_step(msgspec.json.encode(dict(sorted(fields.items(), reverse=True)))) == want


def test_readers_of_a_part_of_a_step_read_layout_1_too() -> None:
    """The tables and the sink skip most of a record."""
    old = layout_1(stepped())
    part = decode_step_by(msgspec.json.Decoder(SlotsOnly), old)
    assert [row.state for row in part.slots] == ["leased"]
    assert bytes(read_audit_step(old).controls[0].event) == b'{"state":"held"}'


def test_a_record_of_the_present_layout_is_not_opened() -> None:
    """The very bytes come back."""
    raw = encode_step(stepped())
    assert present_step(raw) is raw
    assert present_step(layout_1(stepped())) == raw


def snapshot_1(router: Router) -> list[bytes]:
    """Write a snapshot as the version before did."""
    chunks = []
    for chunk in router.snapshot():
        fields = msgspec.msgpack.decode(chunk)
        fields.pop("v", None)
        match fields["type"]:
            case "slots":
                for row, _ in fields["rows"]:
                    row["state"] = "held" if row["state"] == "leased" else row["state"]
            case "tasks":
                for row in fields["rows"]:
                    if row["standing"]["state"] == "delayed":
                        row["standing"]["state"] = "held"
        chunks.append(msgspec.msgpack.encode(fields))
    return chunks


def test_a_snapshot_of_layout_1_is_the_same_state_in_the_new_words() -> None:
    """One leased slot and one delayed task, and what falls due of them."""
    rig = RouterRig("haiku-1", "haiku-2")
    rig.hand_in(task("a"), task("later", title=TEXT, not_before_ms=START_MS + 90_000))
    old = snapshot_1(rig.router)
    assert b"held" in b"".join(old)
    restored = Router.restore(0, rig.router.rulebook, old)
    restored.validate()
    assert picture(restored) == picture(rig.router)
    assert restored.due_ms() == rig.router.due_ms()


def test_a_snapshot_of_a_later_layout_is_refused_with_a_sentence() -> None:
    """Recovery then reads the journal."""
    rig = RouterRig("haiku-1")
    head, *others = rig.router.snapshot()
    later = msgspec.msgpack.encode({**msgspec.msgpack.decode(head), "v": 3})
    with pytest.raises(SnapshotVersionError, match="has layout 3; this slotwise reads layouts 1 to 2"):
        Router.restore(0, rig.router.rulebook, [later, *others])
