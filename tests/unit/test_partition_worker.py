"""A partition's worker loses no input, handles none twice, and accepts the step that was written first."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from schemas.decision import Advice, Step
from schemas.events import ModelDrained, PolicyActivated, TaskPending
from schemas.input import Input, Unreadable
from schemas.steps import decode_step, encode_step
from schemas.vocabulary import Millis, from_millis
from streams.core.policy.rulebook import load_rulebook
from streams.core.router import Router
from streams.partition.inbox import INBOX_RECORDS_MAX
from streams.partition.memory import MemoryRecord
from streams.partition.ports import JournalError, StateMachine
from streams.shipped import shipped
from tests.support.partition_world import (
    RULEBOOK,
    FaultyJournal,
    World,
    lost,
    taken_by,
    until,
    written_but_unknown,
    written_twice,
)


def of_another_worker(world: World, inputs: int) -> Callable[[], bytes]:
    """The step that a worker with the same state makes of the first inputs."""

    def step() -> bytes:
        router = Router(0, RULEBOOK)
        for record in world.journal.log.records:
            earlier = decode_step(record.value or b"")
            if earlier.seq == router.seq:
                router.apply(earlier)
        records = world.inputs.logs[0].records[router.position(0) + 1 : inputs]
        return encode_step(router.handle([_input(record) for record in records]))

    return step


def _input(record: MemoryRecord) -> Input:
    return Input(0, record.offset, Millis(record.timestamp), Unreadable("by another worker"))


# In the ordinary case ------------------------------------------------------------------------------------------


async def test_a_task_is_routed_to_the_free_slot() -> None:
    """One input a topic, one decision."""
    world = World()
    async with world.worker() as worker:
        world.slot("haiku-1")
        await world.pass_through(worker, "slot.freed")
        world.task("t-1")
        await world.pass_through(worker, "task.pending")
    found = world.sound()
    assert [(one["task_id"], one["chosen_slot_id"]) for one in found.decisions] == [("t-1", "haiku-1")]


async def test_what_arrives_together_is_one_step() -> None:
    """Group commit: a thousand inputs, one record."""
    world = World()
    async with world.worker() as worker:
        await world.handle_tasks(worker, 1000)
    world.sound()
    assert len(world.journal.log.records) == 1


async def test_a_step_holds_no_more_inputs_than_it_may() -> None:
    """The rest is in the next steps."""
    world = World(step_inputs_max=40)
    async with world.worker() as worker:
        await world.handle_tasks(worker, 100)
    assert [len(step.inputs) for step in world.steps] == [40, 40, 20]


async def test_a_step_that_is_too_large_becomes_two() -> None:
    """Halves, until each fits."""
    world = World(step_bytes_max=70_000)
    async with world.worker() as worker:
        for number in range(40):
            world.task(f"t-{number}", title="long " * 1000)
        await world.pass_through(worker, "task.pending")
    world.sound()
    assert len(world.steps) > 1
    assert all(len(record.value or b"") <= 70_000 for record in world.journal.log.records)


async def test_a_delivery_is_acked_when_it_is_journaled_and_not_before() -> None:
    """The ack follows the journal."""
    world = World()
    acked: list[int] = []
    async with world.worker() as worker:
        world.task("t-1")
        worker.offer(0, world.inputs.logs[0].records, lambda: acked.append(len(world.journal.log.records)))
        await until(lambda: bool(acked))
    assert acked == [1]


# Delivery goes wrong -------------------------------------------------------------------------------------------


async def test_an_input_delivered_again_changes_nothing() -> None:
    """Five times, at once and later."""
    world = World()
    async with world.worker() as worker:
        for number in range(10):
            world.task(f"t-{number}")
        for _ in range(3):
            world.deliver(worker, "task.pending")
        await world.handled(worker, "task.pending", 9)
        world.deliver(worker, "task.pending", 3, 4, 5)
        world.task("t-10")
        await world.pass_through(worker, "task.pending")
    found = world.sound()
    assert found.handled["task.pending"] == list(range(11))


async def test_a_gap_is_fetched() -> None:
    """What the first delivery left out comes by the side reader, in its place."""
    world = World()
    async with world.worker() as worker:
        for number in range(100):
            world.task(f"t-{number}")
        world.deliver(worker, "task.pending", *range(5))
        world.deliver(worker, "task.pending", *range(90, 100))
        await world.handled(worker, "task.pending", 99)
    found = world.sound()
    assert found.handled["task.pending"] == list(range(100))


async def test_a_gap_in_the_topic_itself_is_no_gap() -> None:
    """Transaction markers take offsets that no record has."""
    world = World()
    async with world.worker() as worker:
        world.task("t-0")
        world.inputs.logs[0].skip(3)
        world.task("t-4")
        world.inputs.logs[0].cut(0)
        world.deliver(worker, "task.pending", 4)
        await world.handled(worker, "task.pending", 4)
    found = world.sound()
    assert found.handled["task.pending"] == [0, 4]


async def test_records_that_come_in_another_order_are_handled_in_theirs() -> None:
    """The later half first: it is a gap, then a duplicate."""
    world = World()
    async with world.worker() as worker:
        for number in range(20):
            world.task(f"t-{number}")
        world.deliver(worker, "task.pending", *range(10, 20))
        world.deliver(worker, "task.pending", *range(10))
        await world.handled(worker, "task.pending", 19)
    found = world.sound()
    assert found.handled["task.pending"] == list(range(20))


async def test_inputs_that_were_never_delivered_are_found_by_the_check() -> None:
    """Nothing reveals it but the end of the topic."""
    world = World()
    async with world.worker() as worker:
        for number in range(10):
            world.task(f"t-{number}")
        worker.check_delivery(0, 10)
        assert worker.position(0) == -1, "one quiet check may be a delivery under way"
        worker.check_delivery(0, 10)
        await world.handled(worker, "task.pending", 9)
        world.inputs.logs[0].skip(2)
        for _ in range(4):
            worker.check_delivery(0, 12)
    world.sound()


async def test_a_full_inbox_pauses_the_topic_until_half_is_done() -> None:
    """Memory is bounded without holding up other partitions."""
    world = World(step_inputs_max=100_000, step_bytes_max=64_000_000)
    async with world.worker() as worker:
        for number in range(INBOX_RECORDS_MAX + 1):
            world.inputs.logs[0].append(b"x", key=b"main", timestamp_ms=number)
        world.deliver(worker, "task.pending")
        assert world.pressed == [(0, True)]
        await world.handled(worker, "task.pending", INBOX_RECORDS_MAX)
    assert world.pressed == [(0, True), (0, False)]


# The journal goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "want_records"),
    [(lost, 1), (written_but_unknown, 1), (written_twice, 2)],
    ids=["not written", "written, answer lost", "written twice"],
)
async def test_an_append_of_unknown_outcome_is_looked_up(
    fault: Callable[[FaultyJournal, bytes], int], want_records: int
) -> None:
    """Each input counts once, whatever became of the record."""
    world = World()
    world.journal.faults.append(fault)
    async with world.worker() as worker:
        await world.handle_tasks(worker, 5)
    found = world.sound()
    assert found.steps == 1
    assert len(world.journal.log.records) == want_records
    assert [step.seq for step in world.steps] == [0], "the follower has it once"


async def test_a_number_that_is_taken_stays_with_its_first_writer() -> None:
    """The other's step counts, ours is ignored and decided again for what is left."""
    world = World()
    for number in range(5):
        world.task(f"t-{number}")
    world.journal.faults.append(taken_by(of_another_worker(world, 3)))
    async with world.worker() as worker:
        await world.pass_through(worker, "task.pending")
    found = world.sound()
    assert (found.steps, found.fenced) == (2, 1)
    assert sorted(found.rejected) == [("task.pending", offset) for offset in range(3)], "as the other worker says"
    assert [step.seq for step in world.steps] == [0, 1], "the follower has the other's step, too"


async def test_two_workers_at_once_still_write_one_history() -> None:
    """Neither knows of the other; both are fed everything."""
    world = World(step_inputs_max=7)
    async with world.worker() as one, world.worker() as other:
        for number in range(200):
            world.task(f"t-{number}")
        world.deliver(one, "task.pending")
        world.deliver(other, "task.pending")
        await world.handled(one, "task.pending", 199)
        await world.handled(other, "task.pending", 199)
    found = world.sound()
    assert found.handled["task.pending"] == list(range(200))


async def test_a_journal_that_was_cut_while_we_ran_ends_the_worker() -> None:
    """Continuing would decide from a state that is not in the journal."""
    world = World()
    async with world.worker() as worker:
        world.task("t-0")
        await world.pass_through(worker, "task.pending")
        world.journal.log.__init__()  # type: ignore[misc]
        world.task("t-1")
        world.deliver(worker, "task.pending", 1)
        with pytest.raises(JournalError, match="deleted or cut while we ran"):
            await world.handled(worker, "task.pending", 1)


async def test_a_follower_that_ends_by_an_error_ends_the_worker() -> None:
    """What was decided would not be published any more; nothing else watches it."""
    world = World()
    async with world.worker() as worker:
        world.follower.failure.set_exception(JournalError("steps are missing"))
        with pytest.raises(JournalError, match="steps are missing"):
            await worker.failed()


# What is refused -----------------------------------------------------------------------------------------------


@pytest.mark.rule("wire.dead_letters")
async def test_a_refused_record_is_in_the_dead_letters_before_the_step_says_so() -> None:
    """Raw bytes, with the reason."""
    world = World()
    world.inputs.logs[0].append(b'{"task_id":', key=b"main", timestamp_ms=1)
    async with world.worker() as worker:
        world.journal.faults.append(lost)
        await world.pass_through(worker, "task.pending")
    (dead,) = world.dead_letters.records
    assert (dead.topic, dead.raw.offset, dead.raw.value) == (0, 0, b'{"task_id":')
    assert world.audit().rejected == {("task.pending", 0): dead.reason}


async def test_a_control_without_a_key_is_for_every_partition() -> None:
    """It names no pool."""
    world = World()
    async with world.worker() as worker:
        at = from_millis(world.clock.now_ms())
        world.send("fleet.control", ModelDrained(control_id="c-1", at=at, by="ops", model="opus"))
        await world.pass_through(worker, "fleet.control")
    assert world.audit().rejected == {}


class Allergic:
    """A router that raises on one task, and is otherwise the real one."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def __getattr__(self, name: str) -> object:
        return getattr(self._router, name)

    def handle(self, inputs: Sequence[Input]) -> Step:
        """Raise on the task called `poison`."""
        if any(getattr(one.event, "task_id", "") == "poison" for one in inputs):
            raise ZeroDivisionError("poison")
        return self._router.handle(inputs)


async def test_an_input_on_which_the_router_fails_is_refused_alone() -> None:
    """Its neighbours are decided, the position moves on."""
    world = World()
    world.make = lambda _: Allergic(Router(0, RULEBOOK))  # type: ignore[assignment, return-value]
    async with world.worker() as worker:
        for number in range(50):
            world.task("poison" if number == 17 else f"t-{number}")
        await world.pass_through(worker, "task.pending")
    found = world.sound()
    assert list(found.rejected) == [("task.pending", 17)]
    assert "ZeroDivisionError" in found.rejected["task.pending", 17]
    assert len(found.tasks) == 49
    assert [dead.raw.offset for dead in world.dead_letters.records] == [17]


# Plug-ins and policies -----------------------------------------------------------------------------------------


class Advisor:
    """Answers for every task with its own id, and remembers who was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing = False

    async def advise(self, tasks: Sequence[TaskPending]) -> list[Advice | None]:
        """Refuse a model with the task's id; say nothing of those called `plain`."""
        if self.failing:
            raise ZeroDivisionError
        self.asked += [one.task_id for one in tasks]
        await asyncio.sleep(0)
        return [None if one.task_id == "plain" else Advice(refused={"opus": one.task_id}) for one in tasks]


class Watched:
    """The real router, which shows what it is handed."""

    def __init__(self, router: Router, seen: list[Input]) -> None:
        self._router = router
        self._seen = seen

    def __getattr__(self, name: str) -> object:
        return getattr(self._router, name)

    def handle(self, inputs: Sequence[Input]) -> Step:
        """Remember the inputs, then decide."""
        self._seen.extend(inputs)
        return self._router.handle(inputs)


def advised(**limits: Any) -> tuple[World, Advisor, list[Input]]:
    """A world with plug-ins, and what its router is handed."""
    world, advisor, seen = World(**limits), Advisor(), list[Input]()
    world.advisor = lambda _: advisor
    world.make = lambda _: Watched(Router(0, RULEBOOK), seen)  # type: ignore[assignment, return-value]
    return world, advisor, seen


async def test_each_task_comes_to_the_router_with_what_the_plug_ins_said_of_it() -> None:
    """In order, whatever stands between them; slots and what cannot be read are nothing to ask about."""
    world, advisor, seen = advised()
    async with world.worker() as worker:
        world.task("t-0")
        world.inputs.logs[0].append(b"x", key=b"main", timestamp_ms=1)
        world.task("plain")
        world.task("t-3")
        world.slot("haiku-1")
        world.deliver(worker, "task.pending")
        await world.pass_through(worker, "slot.freed")
    assert advisor.asked == ["t-0", "plain", "t-3"]
    said = {getattr(one.event, "task_id", None): one.advice for one in seen}
    assert said == {
        "t-0": Advice(refused={"opus": "t-0"}),
        "plain": None,
        "t-3": Advice(refused={"opus": "t-3"}),
        None: None,
    }


async def test_plug_ins_are_asked_once_though_a_step_is_tried_again_and_halved() -> None:
    """Each task, once; a second answer might be another."""
    world, advisor, _ = advised(step_bytes_max=70_000)
    world.journal.faults.extend([lost, written_but_unknown])
    async with world.worker() as worker:
        for number in range(40):
            world.task(f"t-{number}", title="long " * 1000)
        await world.pass_through(worker, "task.pending")
    world.sound()
    assert advisor.asked == [f"t-{number}" for number in range(40)]


async def test_a_worker_goes_on_without_plug_ins_when_asking_them_fails() -> None:
    """As it would if there were none."""
    world, advisor, _ = advised()
    advisor.failing = True
    async with world.worker() as worker:
        world.task("t-0")
        await world.pass_through(worker, "task.pending")
    world.sound()


@pytest.mark.parametrize("activations", list(itertools.product((True, False), repeat=4)))
async def test_a_worker_cuts_its_batch_around_an_activation(activations: tuple[bool, ...]) -> None:
    """What comes with it is decided before or after it, never with it."""
    world = World()
    async with world.worker() as worker:
        for number, activates in enumerate(activations):
            if activates:
                at = from_millis(world.clock.now_ms())
                named = {"control_id": f"c-{number}", "at": at, "by": "ops", "policy": "p", "catalog": "c"}
                world.send("fleet.control", PolicyActivated(**named))
                world.deliver(worker, "fleet.control", len(world.inputs.logs[2].records) - 1)
            else:
                world.task(f"t-{number}")
                world.deliver(worker, "task.pending", len(world.inputs.logs[0].records) - 1)
        await world.handled(worker, "fleet.control", sum(activations) - 1)
        await world.handled(worker, "task.pending", 3 - sum(activations))
    world.sound()
    runs = [len(list(run)) for activates, run in itertools.groupby(activations) if not activates]
    assert [len(step.inputs) for step in world.steps if step.inputs[0].topic == 2] == [1] * sum(activations)
    assert [len(step.inputs) for step in world.steps if step.inputs[0].topic == 0] == runs


def activation(world: World, policy_text: str) -> None:
    """Send a policy that is to decide from here on, with the shipped catalogue."""
    activated = load_rulebook(shipped("catalog.toml"), policy_text)
    event = PolicyActivated(
        control_id=activated.policy_hash,
        at=from_millis(world.clock.now_ms()),
        by="ops",
        policy=activated.policy_hash,
        catalog=activated.catalog_hash,
        policy_text=policy_text,
        catalog_text=shipped("catalog.toml"),
    )
    world.send("fleet.control", event)


async def test_an_activated_policy_says_which_plug_ins_are_asked(caplog: pytest.LogCaptureFixture) -> None:
    """They are called for tasks after it, not before; a worker that starts later logs which policy decides."""
    world, advisor = World(), Advisor()
    world.advisor = lambda rulebook: advisor if rulebook.policy.plugins.any else None
    async with world.worker() as worker:
        caplog.set_level("INFO", logger="streams.partition.worker")
        for number in range(2):
            world.task(f"t-{number}")
        activation(world, '[plugins]\nrules = ["mine"]\n')
        for number in range(2, 4):
            world.task(f"t-{number}")
        world.deliver(worker, "task.pending", 0, 1)
        world.deliver(worker, "fleet.control", 0)
        world.deliver(worker, "task.pending", 2, 3)
        await world.handled(worker, "task.pending", 3)
        activated = worker.machine.rulebook
    world.sound()
    assert advisor.asked == ["t-2", "t-3"]
    assert [len(step.inputs) for step in world.steps] == [2, 1, 2]
    assert world.steps[2].advice == (
        (0, Advice(refused={"opus": "t-2"})),
        (1, Advice(refused={"opus": "t-3"})),
    )
    derived = world.verified()
    assert (derived.steps, derived.difference) == (len(world.steps), None), "without a plug-in"
    mine, files = activated.policy_hash, RULEBOOK.policy_hash
    catalog = RULEBOOK.catalog_hash
    assert caplog.messages == [f"partition 0 decides by policy {mine} (catalogue {catalog}) from step 1 on"]
    caplog.clear()
    async with world.worker() as again:
        await again.halt()
        await again.start()
    (once,) = caplog.messages
    assert once == (
        f"partition 0 decides by the activated policy {mine} (catalogue {catalog}); the file's is {files} ({catalog}): "
        "`slotwise policy activate` to change"
    )


# Time ----------------------------------------------------------------------------------------------------------


async def test_time_never_goes_back_and_never_runs_far_ahead() -> None:
    """A producer's clock is not believed beyond the limit."""
    world = World()
    async with world.worker() as worker:
        now_ms = world.clock.now_ms()
        for number, stamp_ms in enumerate((now_ms, now_ms - 60_000, now_ms + 3_600_000, -1)):
            world.send("task.pending", _task(world, number), timestamp_ms=stamp_ms)
        await world.pass_through(worker, "task.pending")
    (step,) = world.steps
    assert [one.now_ms - now_ms for one in step.inputs] == [0, 0, 5000, 5000]


def _task(world: World, number: int) -> TaskPending:
    return TaskPending(task_id=f"t-{number}", pool="main", at=from_millis(world.clock.now_ms()))


@pytest.mark.rule("control.tick")
async def test_a_tick_is_sent_when_something_falls_due_and_nothing_comes() -> None:
    """A task that was put off is decided on time; before that the worker is silent."""
    world = World()
    async with world.worker() as worker:
        world.slot("haiku-1")
        await world.pass_through(worker, "slot.freed")
        world.task("t-1", not_before=from_millis(world.clock.now_ms() + 60))
        await world.pass_through(worker, "task.pending")
        assert world.inputs.logs[2].records == []
        world.clock.advance(100)
        await until(lambda: bool(world.inputs.logs[2].records))
        await world.pass_through(worker, "fleet.control")
    found = world.sound()
    assert [one["outcome"] for one in found.decisions][-1] == "routed"


# Starting again ------------------------------------------------------------------------------------------------


async def test_a_new_worker_goes_on_where_the_journal_ends() -> None:
    """Same state, same positions, next number."""
    world = World(step_inputs_max=3)
    async with world.worker() as worker:
        await world.handle_tasks(worker, 10)
    async with world.worker() as again:
        assert again.position(0) == 9
        assert again.journal_position == worker.journal_position
        world.slot("haiku-1")
        world.deliver(again, "task.pending")
        await world.pass_through(again, "slot.freed")
    found = world.sound()
    assert len(found.routed()) == 1


async def test_a_halted_worker_takes_up_again_what_another_did_meanwhile() -> None:
    """A partition goes away and comes back."""
    world = World()
    async with world.worker() as worker:
        world.task("t-0")
        await world.pass_through(worker, "task.pending")
        await worker.halt()
        async with world.worker() as other:
            world.task("t-1")
            await world.pass_through(other, "task.pending")
        await worker.recover()
        await worker.start()
        assert worker.position(0) == 1
        world.task("t-2")
        await world.pass_through(worker, "task.pending")
    world.sound()


async def test_a_worker_that_cannot_write_can_still_be_halted() -> None:
    """A worker stops although its broker is away."""
    world = World()
    world.journal.faults.extend([lost] * 1000)
    worker = world.new_worker()
    await worker.recover()
    await worker.start()
    world.task("t-0")
    world.deliver(worker, "task.pending")
    await until(lambda: len(world.journal.faults) < 1000)
    await worker.halt()
    assert world.journal.log.records == []
    world.journal.faults.clear()
    async with world.worker() as again:
        await world.pass_through(again, "task.pending")
    world.sound()


def test_the_state_machine_of_a_worker_is_the_router() -> None:
    """The router has everything that the protocol names."""
    machine: StateMachine = Router(0, RULEBOOK)
    chunks: Iterable[bytes] = machine.snapshot()
    assert (machine.seq, machine.position(0), machine.due_ms(), list(chunks) != []) == (0, -1, None, True)
