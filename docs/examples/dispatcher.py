"""A dispatcher in twenty lines: announce a slot, do what is routed to it, free it. Run: dispatcher.py BROKER."""

import sys
from datetime import UTC, datetime
from json import dumps, loads

from kafka import KafkaConsumer, KafkaProducer

POOL, SLOT, MODEL = "main", "my-haiku-1", "haiku"
producer = KafkaProducer(bootstrap_servers=sys.argv[1], acks="all", enable_idempotence=False)
routed = KafkaConsumer("task.routed", bootstrap_servers=sys.argv[1], group_id=None, auto_offset_reset="latest")


def free(**more: object) -> None:
    """Tell the router that the slot is free: the first time as it is, then with the lease and how the work went."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {"slot_id": SLOT, "pool": POOL, "model": MODEL, "at": at, **more}
    producer.send("slot.freed", key=POOL.encode(), value=dumps(event).encode()).get(timeout=30)


routed.poll(timeout_ms=1000)
for partition in routed.assignment():
    routed.position(partition)  # stand at the end before the router knows of the slot
seen, lease = set(), 0
free()
for task in (loads(record.value) for record in routed):
    if task["slot_id"] != SLOT or task["decision_id"] in seen or task["lease"] <= lease:
        continue  # another slot's, a repetition (delivery is at least once), or stale (a lease number only grows)
    seen.add(task["decision_id"])
    lease = task["lease"]
    print(f"{task['task_id']} on {SLOT}: {task['reason']}", flush=True)  # here the work is done
    free(lease=lease, outcome={"task_id": task["task_id"], "status": "success"})
