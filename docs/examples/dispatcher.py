"""A dispatcher in twenty lines: announce a slot, do what is routed to it, free it. Run: dispatcher.py [BROKER]."""

import sys
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from json import dumps, loads
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer

POOL, SLOT, MODEL = "agents", "my-haiku-1", "haiku"
broker = sys.argv[1] if len(sys.argv) > 1 else loads(Path(".slotwise/up.json").read_text())["broker"]
producer = KafkaProducer(bootstrap_servers=broker, acks="all", enable_idempotence=False)
routed = KafkaConsumer("task.routed", bootstrap_servers=broker, group_id=None, auto_offset_reset="latest")


def report(**more: object) -> None:
    """Announce the slot: the first time as it is, then with the lease, and with the outcome of the work at its end."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {"slot_id": SLOT, "pool": POOL, "model": MODEL, "at": at, **more}
    producer.send("slot.freed", key=POOL.encode(), value=dumps(event).encode()).get(timeout=30)


routed.poll(timeout_ms=1000)
positions = [routed.position(one) for one in routed.assignment()]  # be at the end before the router knows of the slot
lease, workers = 0, ThreadPoolExecutor()
report()
for task in (loads(record.value) for record in routed):
    if task["slot_id"] != SLOT or task["lease"] <= lease:
        continue  # another slot's, or stale, or a repetition (delivery is at least once): a lease number only grows
    lease, began, ends = task["lease"], *map(datetime.fromisoformat, (task["decided_at"], task["lease_expires_at"]))
    work = workers.submit(print, f"{task['task_id']} on {SLOT}: {task['reason']}", flush=True)  # here the work is done
    while not wait([work], timeout=(ends - began).total_seconds() / 2).done:
        report(lease=lease, state="working")  # renews the lease for as long again, at most lease_renewals_max times
    report(lease=lease, outcome={"task_id": task["task_id"], "status": "success"})
