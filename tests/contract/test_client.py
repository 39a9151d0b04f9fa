"""What a program may expect of the client: over an installation in memory, and over a broker with a worker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from slotwise import (
    AsyncClient,
    AsyncSlot,
    AsyncWork,
    Cancelled,
    Client,
    NotAccepted,
    NotFinished,
    Slot,
    SlotwiseError,
    Task,
    fake,
)
from streams.host import free_port
from streams.local.tansu import EmbeddedBroker
from streams.settings import Settings
from streams.topics import create_topics
from tests.support.installation import Worker

WAIT_S = 90.0


@pytest.fixture(scope="module")
def broker_with_worker(tansu_broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Give an installation on the embedded broker, with one worker, for all tests of this file."""
    unique = f"t{uuid.uuid4().hex[:8]}"
    settings = Settings(
        broker=tansu_broker.start(), group=unique, topic_prefix=f"{unique}.", partitions=2, web_port=free_port()
    )
    create_topics(settings)
    worker = Worker(settings, tmp_path_factory.mktemp("client") / "worker.log")
    worker.start()
    try:
        asyncio.run(worker.ready())
        yield settings
    finally:
        worker.process.kill()
        worker.process.wait()


@pytest.fixture(params=["memory", "broker"])
def make(request: pytest.FixtureRequest) -> Callable[[], AsyncClient]:
    """Give what makes a client of each kind."""
    if request.param == "memory":
        return fake.AsyncClient
    settings: Settings = request.getfixturevalue("broker_with_worker")
    return lambda: AsyncClient(bootstrap_servers=settings.broker, topic_prefix=settings.topic_prefix)


@pytest.fixture
def pool() -> str:
    """Give a pool of its own to a test."""
    return f"pool-{uuid.uuid4().hex[:8]}"


def haiku(pool: str, client: AsyncClient, number: int = 1, **named: Any) -> AsyncSlot:
    """A slot for any task."""
    return AsyncSlot(f"haiku-{number}", pool=pool, model="haiku", client=client, **named)


async def next_of(slot: AsyncSlot) -> AsyncWork:
    """The slot's next task."""
    work = await slot.next(timeout=WAIT_S)
    assert work is not None, "no task came"
    return work


async def test_a_task_is_done_and_its_end_is_what_its_slot_reported(make: Callable[[], AsyncClient], pool: str) -> None:
    """Submitted with all that it carries, done, waited for."""
    payload = {"file": "README.md", "lines": [12, 14], "share": 1.5, "sign": "é"}
    async with make() as client, haiku(pool, client, account="acct-1") as slot:
        task = await client.submit(
            pool=pool, title="Fix typo", requires={"coding": 4}, payload=payload, labels={"a": "b"}
        )
        work = await next_of(slot)
        assert (work.task_id, work.task.title, work.task.account) == (task.task_id, "Fix typo", "acct-1")
        assert (work.payload, work.task.labels) == (payload, {"a": "b"})
        async with work:
            work.used(cost_usd=0.25, quality=0.5)
            work.used(latency_s=2.0)
        end = await client.wait(task, timeout=WAIT_S)
        assert (end.status, end.attempts, end.slot_id, end.model) == ("success", 1, "haiku-1", "haiku")
        assert (end.cost_usd, end.quality, end.latency_s) == (0.25, 0.5, 2.0)


async def test_a_task_that_is_over_already_is_found(make: Callable[[], AsyncClient], pool: str) -> None:
    """By the client that submitted it, again, and by one that was not there; also an id that is submitted twice."""
    async with make() as client, haiku(pool, client) as slot:
        task = await client.submit(pool=pool, task_id="t-1")
        await (await next_of(slot)).succeed()
        first = await client.wait(task, timeout=WAIT_S)
        assert await client.wait(task, timeout=WAIT_S) == first
        again = await client.submit(pool=pool, task_id="t-1")
        assert await client.wait(again, timeout=WAIT_S) == first, "a duplicate of a success"
        later = make() if not isinstance(client, fake.AsyncClient) else client
        async with later:
            assert await later.wait(Task(pool, "t-1"), timeout=WAIT_S) == first
            assert await later.wait(await later.submit(pool=pool, task_id="t-1"), timeout=WAIT_S) == first


async def test_a_task_that_is_not_over_in_time_says_so_and_may_be_waited_for_again(
    make: Callable[[], AsyncClient], pool: str
) -> None:
    """The wait ends, not the task."""
    async with make() as client, haiku(pool, client) as slot:
        task = await client.submit(pool=pool)
        with pytest.raises(NotFinished, match=f"Task {task} of pool {pool} was not over after 0.1 s"):
            await client.wait(task, timeout=0.1)
        await (await next_of(slot)).succeed()
        assert (await client.wait(task, timeout=WAIT_S)).status == "success"


async def test_what_the_router_would_refuse_is_not_sent(make: Callable[[], AsyncClient], pool: str) -> None:
    """With the sentence of the dead letter, where the mistake is."""
    async with make() as client, haiku(pool, client) as slot:
        with pytest.raises(NotAccepted, match="field priority"):
            await client.submit(pool=pool, priority=101)
        with pytest.raises(NotAccepted, match="payload"):
            await client.submit(pool=pool, payload=object())
        with pytest.raises(NotAccepted, match="field slot_id"):
            await AsyncSlot("not an id", pool=pool, model="haiku", client=client).start()
        await client.submit(pool=pool)
        work = await next_of(slot)
        with pytest.raises(NotAccepted, match=r"field outcome\.quality"):
            await work.succeed(quality=2.0)
        await work.succeed()
        with pytest.raises(RuntimeError, match="was reported already"):
            await work.fail()


async def test_a_failure_is_tried_again_and_a_drop_is_not(make: Callable[[], AsyncClient], pool: str) -> None:
    """An exception in the block is one, with its type, and goes on."""
    async with make() as client, haiku(pool, client) as slot:
        task = await client.submit(pool=pool, on_failure="drop")
        with pytest.raises(ZeroDivisionError):
            async with await next_of(slot):
                raise ZeroDivisionError
        end = await client.wait(task, timeout=WAIT_S)
        assert (end.status, "ZeroDivisionError" in end.reason) == ("dropped", True)


async def test_work_of_a_cancelled_task_is_interrupted_and_reported_as_stopped(
    make: Callable[[], AsyncClient], pool: str
) -> None:
    """At an `await` of the block; what was used so far counts, and the slot gets the next task."""
    async with make() as client, haiku(pool, client) as slot:
        task = await client.submit(pool=pool)
        async with await next_of(slot) as work:
            work.used(cost_usd=0.125)
            await client.cancel(task)
            await asyncio.sleep(WAIT_S)
            pytest.fail("the work was not interrupted")
        assert (work.cancelled, work.reason) == (True, "cancelled")
        end = await client.wait(task, timeout=WAIT_S)
        assert (end.status, end.cost_usd) == ("cancelled", 0.125)
        await client.submit(pool=pool)
        await (await next_of(slot)).succeed()


async def test_a_task_that_waits_is_cancelled(make: Callable[[], AsyncClient], pool: str) -> None:
    """No slot ever has it."""
    async with make() as client:
        task = await client.submit(pool=pool)
        await client.cancel(task, by="ops")
        end = await client.wait(task, timeout=WAIT_S)
        assert (end.status, end.slot_id) == ("cancelled", None)


async def test_a_lease_is_renewed_while_the_work_runs(make: Callable[[], AsyncClient], pool: str) -> None:
    """The work takes longer than its lease of six seconds, and is done in one attempt."""
    async with make() as client, haiku(pool, client) as slot:
        task = await client.submit(pool=pool, lease_s=6.0)
        work = await next_of(slot)
        assert not await work.cancelled_within(7.0)
        await work.succeed()
        end = await client.wait(task, timeout=WAIT_S)
        assert (end.status, end.attempts) == ("success", 1)


async def test_a_slot_that_leaves_gets_no_task_and_its_work_goes_to_another(
    make: Callable[[], AsyncClient], pool: str
) -> None:
    """What it had not reported has failed; what comes later waits for the other slot."""
    async with make() as client:
        async with haiku(pool, client) as slot:
            task = await client.submit(pool=pool, on_failure="drop")
            await next_of(slot)
        assert (await client.wait(task, timeout=WAIT_S)).status == "dropped"
        task = await client.submit(pool=pool)
        with pytest.raises(NotFinished):
            await client.wait(task, timeout=0.2)
        async with haiku(pool, client, 2) as other:
            await (await next_of(other)).succeed()
        end = await client.wait(task, timeout=WAIT_S)
        assert (end.slot_id, end.attempts) == ("haiku-2", 1)


async def test_an_iteration_ends_when_it_is_asked_to(make: Callable[[], AsyncClient], pool: str) -> None:
    """After the work at hand; a slot has one task at a time, whatever waits."""
    async with make() as client, haiku(pool, client) as slot:
        for n in range(3):
            await client.submit(pool=pool, task_id=f"t-{n}")
        done = []
        async for work in slot:
            async with work:
                done.append(work.task_id)
                if len(done) == 2:
                    slot.end()
        assert len(done) == 2


async def test_a_broker_without_the_topics_of_this_installation_is_one_sentence(broker_with_worker: Settings) -> None:
    """Another prefix, or no right to see them: both are named."""
    client = AsyncClient(bootstrap_servers=broker_with_worker.broker, topic_prefix="elsewhere.")
    with pytest.raises(SlotwiseError, match=r"shows no topic elsewhere\.task\.finished: create it"):
        await client.start()


@pytest.mark.parametrize("kind", ["memory", "broker"])
def test_programs_without_an_event_loop_have_the_same(kind: str, request: pytest.FixtureRequest, pool: str) -> None:
    """Done, failed by an exception, cancelled within a block: in plain calls."""
    client: Client = fake.Client()
    if kind == "broker":
        settings: Settings = request.getfixturevalue("broker_with_worker")
        client = Client(bootstrap_servers=settings.broker, topic_prefix=settings.topic_prefix)
    with client, Slot("haiku-1", pool=pool, model="haiku", client=client) as slot:
        first, second, third = (client.submit(pool=pool, task_id=f"t-{n}", on_failure="drop") for n in range(3))
        seen = {}
        for work in slot:
            seen[work.task_id] = work
            if work.task_id == "t-0":
                with work:
                    work.used(quality=1.0)
            elif work.task_id == "t-1":
                with pytest.raises(KeyError), work:
                    raise KeyError
            else:
                with work:
                    client.cancel(third)
                    assert work.wait_cancelled(WAIT_S)
                    work.raise_if_cancelled()
                    pytest.fail("it must stop")
            if len(seen) == 3:
                slot.end()
        assert seen["t-2"].reason == "cancelled"
        ends = [client.wait(task, timeout=WAIT_S) for task in (first, second, third)]
        assert [end.status for end in ends] == ["success", "dropped", "cancelled"]
        assert slot.next(timeout=0) is None
    assert issubclass(Cancelled, Exception)
