"""A dispatcher in twenty lines: announce a slot, do what is routed to it, free it. Run: dispatcher.py [BROKER]."""

import sys
from datetime import UTC, datetime
from json import dumps, loads
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer

POOL, SLOT, MODEL = "agents", "my-haiku-1", "haiku"
broker = sys.argv[1] if len(sys.argv) > 1 else loads(Path(".slotwise/up.json").read_text())["broker"]
producer = KafkaProducer(bootstrap_servers=broker, acks="all", enable_idempotence=False)
routed = KafkaConsumer("task.routed", bootstrap_servers=broker, group_id=None, auto_offset_reset="latest")


def free(**more: object) -> None:
    """Announce the slot: the first time as it is, then with the lease and the outcome of the work."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {"slot_id": SLOT, "pool": POOL, "model": MODEL, "at": at, **more}
    producer.send("slot.freed", key=POOL.encode(), value=dumps(event).encode()).get(timeout=30)


routed.poll(timeout_ms=1000)
for partition in routed.assignment():
    routed.position(partition)  # be at the end before the router knows of the slot
seen, lease = set(), 0
free()
for task in (loads(record.value) for record in routed):
    if task["slot_id"] != SLOT or task["decision_id"] in seen or task["lease"] <= lease:
        continue  # another slot's, a repetition (delivery is at least once), or stale (a lease number only grows)
    seen.add(task["decision_id"])
    lease = task["lease"]
    print(f"{task['task_id']} on {SLOT}: {task['reason']}", flush=True)  # here the work is done
    free(lease=lease, outcome={"task_id": task["task_id"], "status": "success"})
