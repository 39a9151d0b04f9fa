-- What people read. A view runs with its owner's rights, so that readers need none on the tables.

CREATE VIEW v_model_routing_decisions AS SELECT * FROM model_routing_decisions;

CREATE VIEW v_model_routing_outcomes AS SELECT * FROM model_routing_outcomes;

CREATE VIEW v_journal_steps AS SELECT * FROM journal_steps;

CREATE VIEW v_tier_mix AS
SELECT
    mode,
    coalesce(layer, '(none)')                                                          AS layer,
    chosen_model                                                                       AS model,
    tier,
    count(*)                                                                           AS routed,
    round(count(*) / sum(count(*)) OVER (PARTITION BY mode, coalesce(layer, '(none)')), 4) AS share_of_layer,
    round(avg(ev)::numeric, 4)                                                         AS ev_avg,
    sum(estimated_cost_usd)                                                            AS estimated_cost_usd
FROM model_routing_decisions
WHERE outcome = 'routed' AND decided_at >= now() - interval '24 hours'
GROUP BY mode, coalesce(layer, '(none)'), chosen_model, tier;

COMMENT ON VIEW v_tier_mix IS 'Which models did the work of each layer in the last 24 h';

CREATE VIEW v_waits AS
SELECT
    journal,
    mode,
    pool,
    task_id,
    attempt,
    min(decided_at)                                                  AS first_decided_at,
    max(decided_at) FILTER (WHERE outcome <> 'waiting')              AS ended_at,
    extract(epoch FROM coalesce(max(decided_at) FILTER (WHERE outcome <> 'waiting'), now()) - min(decided_at)) AS wait_s,
    coalesce(max(outcome) FILTER (WHERE outcome <> 'waiting'), 'waiting') AS now_is,
    array_agg(reason_code ORDER BY seq) FILTER (WHERE outcome = 'waiting') AS waited_for,
    max(layer)                                                       AS layer,
    max(tenant_id)                                                   AS tenant_id,
    max(priority)                                                    AS priority,
    max(ev)                                                          AS ev
FROM model_routing_decisions
WHERE decided_at >= now() - interval '24 hours'
GROUP BY journal, mode, pool, task_id, attempt
HAVING bool_or(outcome = 'waiting');

COMMENT ON VIEW v_waits IS 'Each attempt of a task that had to wait in the last 24 h: how long, for what, and how it ended';

CREATE VIEW v_spend AS
WITH work AS (
    SELECT decision_id, journal, sum(cost_usd) AS cost_usd
    FROM model_routing_outcomes
    GROUP BY decision_id, journal
)
SELECT
    d.mode,
    (d.decided_at AT TIME ZONE 'UTC')::date      AS day,
    coalesce(d.tenant_id, '(none)')              AS tenant_id,
    d.chosen_model                               AS model,
    d.tier,
    count(*)                                     AS routed,
    count(w.decision_id)                         AS finished,
    sum(d.estimated_cost_usd)                    AS estimated_cost_usd,
    sum(w.cost_usd)                              AS told_cost_usd,
    sum(d.saved_vs_premium_usd)                  AS saved_vs_premium_usd,
    sum(d.saved_vs_next_free_usd)                AS saved_vs_next_free_usd
FROM model_routing_decisions d
LEFT JOIN work w USING (decision_id, journal)
WHERE d.outcome = 'routed'
GROUP BY d.mode, (d.decided_at AT TIME ZONE 'UTC')::date, coalesce(d.tenant_id, '(none)'), d.chosen_model, d.tier;

COMMENT ON VIEW v_spend IS 'What each tenant''s work cost by day and model, and what routing saved';

CREATE VIEW v_audit_check AS
WITH kept AS (
    -- Where days were dropped, a step of the first day kept may have lost decisions of the day before.
    SELECT coalesce((max(before) + 1)::timestamp AT TIME ZONE 'UTC', '-infinity') AS since FROM audit_dropped
), linked AS (
    SELECT
        journal, partition, seq, now, decisions, work,
        -- The first number of all is linked to 32 zero bytes; what a later first row was linked to was dropped.
        chain_sha256 IS DISTINCT FROM sha256(
            coalesce(
                lag(chain_sha256) OVER numbers,
                CASE WHEN seq = 0 THEN decode(repeat('00', 32), 'hex') END
            ) || record_sha256
        ) AND NOT (row_number() OVER numbers = 1 AND seq > 0) AS broken
    FROM journal_steps
    WINDOW numbers AS (PARTITION BY journal, partition ORDER BY seq)
), steps AS (
    SELECT
        journal, partition,
        min(seq) AS first_seq, max(seq) AS last_seq, count(*) AS steps,
        count(*) FILTER (WHERE broken) AS links_broken,
        min(seq) FILTER (WHERE now >= since) AS from_seq,
        coalesce(sum(decisions) FILTER (WHERE now >= since), 0) AS decisions_told,
        coalesce(sum(work) FILTER (WHERE now >= since), 0) AS work_told
    FROM linked CROSS JOIN kept
    GROUP BY journal, partition
), decided AS (
    SELECT s.journal, s.partition, count(*) AS found
    FROM steps s JOIN model_routing_decisions d USING (journal, partition)
    WHERE d.seq >= s.from_seq
    GROUP BY s.journal, s.partition
), worked AS (
    SELECT s.journal, s.partition, count(*) AS found
    FROM steps s JOIN model_routing_outcomes o USING (journal, partition)
    WHERE o.seq >= s.from_seq
    GROUP BY s.journal, s.partition
)
SELECT
    journal, partition, first_seq, last_seq, steps,
    last_seq - first_seq + 1 - steps AS steps_missing,
    links_broken,
    decisions_told, coalesce(decided.found, 0) AS decisions_found,
    work_told, coalesce(worked.found, 0) AS work_found
FROM steps
LEFT JOIN decided USING (journal, partition)
LEFT JOIN worked USING (journal, partition);

COMMENT ON VIEW v_audit_check IS 'A line a partition: nothing is missing when steps_missing and links_broken are 0 and told equals found';
