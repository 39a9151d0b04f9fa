"""A dispatcher with nothing but a Kafka client: announce a slot, do its tasks, stop what must stop, free it."""

import sys
from datetime import UTC, datetime, timedelta
from itertools import chain
from json import dumps, loads
from pathlib import Path
from subprocess import Popen

from kafka import KafkaConsumer, KafkaProducer

POOL, SLOT, MODEL = "agents", "my-haiku-1", "haiku"
# Where the broker is may be said on the command line; else it is that of `slotwise up` here.
broker = sys.argv[1] if len(sys.argv) > 1 else loads(Path(".slotwise/up.json").read_text())["broker"]
producer = KafkaProducer(bootstrap_servers=broker, acks="all", enable_idempotence=False)
events = KafkaConsumer("task.routed", "task.cancelled", bootstrap_servers=broker, group_id=None)


def report(**more: object) -> None:
    """Announce the slot as it is, free it with its lease and the outcome, or renew the lease."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {"slot_id": SLOT, "pool": POOL, "model": MODEL, "at": at, **more}
    producer.send("slot.freed", key=POOL.encode(), value=dumps(event).encode()).get(timeout=30)


events.poll(timeout_ms=1000)
positions = [events.position(one) for one in events.assignment()]  # be at the end before the router knows of the slot
lease, task, work, stops, half, renewal = 0, {}, None, {}, timedelta(), datetime.now(UTC)
report()
while True:
    for record in chain.from_iterable(events.poll(timeout_ms=100).values()):
        event = loads(record.value)
        if (event["pool"], event["slot_id"]) != (POOL, SLOT):
            continue
        # Stale ones are ignored, and repetitions, for delivery is at least once: a lease number only grows.
        if record.topic == "task.routed" and event["lease"] > lease:
            lease, task = event["lease"], event
            half = (datetime.fromisoformat(task["lease_expires_at"]) - datetime.fromisoformat(task["decided_at"])) / 2
            renewal = datetime.now(UTC) + half
            # A program of its own, so that it can be stopped.
            work = Popen(["echo", f"{task['task_id']} on {SLOT}: {task['reason']}"])
        elif record.topic == "task.cancelled":
            stops[event["lease"]] = event["reason_code"]  # it may come before its task: topics have no common order
    if work and (stop := stops.get(lease)):
        work.kill()
    if work and work.poll() is not None:
        status = "cancelled" if stop else "success" if work.returncode == 0 else "failure"
        if stop in (None, "cancelled"):
            report(lease=lease, outcome={"task_id": task["task_id"], "status": status})
        elif stop == "lease_lost":
            report()  # the task is pending again; a slot that was retired says nothing
        work = None
    elif work and datetime.now(UTC) > renewal:
        report(lease=lease, state="working")  # renews the lease for as long again, at most lease_renewals_max times
        renewal += half
