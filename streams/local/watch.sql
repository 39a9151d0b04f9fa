-- How much of a journal stands in the audit, from the first steps that the watcher saw: one line.
-- steps_from is {"partition": "first seq"}.
WITH since AS (
    SELECT key::integer AS partition, value::bigint AS seq FROM jsonb_each_text(%(steps_from)s::jsonb)
)
SELECT
    (
        SELECT count(*) FROM v_journal_steps AS step JOIN since USING (partition)
        WHERE step.journal = %(journal)s AND step.seq >= since.seq
    ) AS steps,
    (
        SELECT count(*) FROM v_model_routing_decisions AS decision JOIN since USING (partition)
        WHERE decision.journal = %(journal)s AND decision.seq >= since.seq
    ) AS decisions
