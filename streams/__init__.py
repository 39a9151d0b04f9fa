"""slotwise gives tasks of an LLM agent fleet to slots, on Kafka.

The flow of one task, and where each part lives:

    kafka/       brings records of task.pending, slot.freed and fleet.control as batches (Faust's transport is ours)
    agents.py    hands each batch to the worker of its partition
    partition/   decodes the records (schemas.codec), gives each its time, and asks the router
    core/        router.handle(inputs) -> one step: decisions, and the rows that they change. Pure
    kafka/       appends the step to decision.audit, the journal: from then on it has happened
    core/        router.apply(step): the step becomes part of the state
    partition/   the publisher sends task.routed, task.await_slot and dead letters
    sinks/       follow the journal and write rows to Postgres
    views/       read: explain, check, metrics; operate/: orders and recommendations; commands/: the command line
    audit/       checks that journal, topics and Postgres agree; replay/ makes steps again; simulate/ plays fleets

Pure are `schemas` and `streams.core` (router > step > index > policy > state): no clock, no randomness, no I/O.
The whole map, with the reasons: docs/architecture.md.
"""
