-- What people read of operators' events, money and lanes. New columns of a view stand at its end: what asks by name
-- goes on as before.

CREATE OR REPLACE VIEW v_model_routing_decisions AS SELECT * FROM model_routing_decisions;

CREATE OR REPLACE VIEW v_model_routing_outcomes AS SELECT * FROM model_routing_outcomes;

CREATE OR REPLACE VIEW v_journal_steps AS SELECT * FROM journal_steps;

CREATE VIEW v_fleet_controls_taken AS SELECT * FROM fleet_controls_taken;

CREATE VIEW v_budget_movements AS SELECT * FROM budget_movements;

CREATE VIEW v_fleet_controls AS
SELECT
    journal, mode, control_id, kind, by, pool, at,
    min(taken_at)                        AS taken_at,
    array_agg(partition ORDER BY partition) AS partitions,
    event
FROM fleet_controls_taken
GROUP BY journal, mode, control_id, kind, by, pool, at, event;

COMMENT ON VIEW v_fleet_controls IS 'What operators, probes and billing said, an event a line, and the partitions that took it';

CREATE VIEW v_budgets AS
WITH movements AS (
    SELECT journal, mode, pool, tenant_id, kind, amount_usd, decision_id, at FROM budget_movements
    UNION ALL
    SELECT journal, mode, pool, tenant_id, kind, amount_usd, decision_id, NULL FROM budget_carried
), closed AS (
    SELECT DISTINCT journal, decision_id FROM movements
    WHERE kind IN ('settle', 'release') AND decision_id IS NOT NULL
), sums AS (
    SELECT
        m.journal, m.mode, m.pool, m.tenant_id,
        coalesce(sum(m.amount_usd) FILTER (WHERE m.kind = 'credit'), 0)                                  AS credited_usd,
        coalesce(sum(m.amount_usd) FILTER (WHERE m.kind = 'reserve' AND closed.decision_id IS NULL), 0)  AS reserved_usd,
        coalesce(sum(m.amount_usd) FILTER (WHERE m.kind = 'settle'), 0)                                  AS consumed_usd,
        max(m.at)                                                                                        AS moved_at
    FROM movements AS m
    LEFT JOIN closed ON closed.journal = m.journal AND closed.decision_id = m.decision_id
    GROUP BY m.journal, m.mode, m.pool, m.tenant_id
)
SELECT
    journal, mode, pool, tenant_id, credited_usd, reserved_usd, consumed_usd,
    credited_usd - reserved_usd - consumed_usd AS available_usd,
    moved_at
FROM sums;

COMMENT ON VIEW v_budgets IS 'Each tenant''s budget in each pool, from its movements: credited = available + reserved + consumed';

CREATE OR REPLACE VIEW v_spend AS
WITH work AS (
    SELECT decision_id, journal, sum(cost_usd) AS cost_usd, sum(actual_cost_usd) AS actual_cost_usd
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
    sum(d.saved_vs_next_free_usd)                AS saved_vs_next_free_usd,
    sum(w.actual_cost_usd)                       AS actual_cost_usd
FROM model_routing_decisions d
LEFT JOIN work w USING (decision_id, journal)
WHERE d.outcome = 'routed'
GROUP BY d.mode, (d.decided_at AT TIME ZONE 'UTC')::date, coalesce(d.tenant_id, '(none)'), d.chosen_model, d.tier;

CREATE VIEW v_lane_health AS
WITH restarts AS (
    SELECT journal, pool, event ->> 'lane' AS lane, max(taken_at) AS at
    FROM fleet_controls_taken
    WHERE kind = 'lane.restarted' AND taken_at >= now() - interval '24 hours'
    GROUP BY journal, pool, event ->> 'lane'
), decided AS (
    SELECT
        d.journal, d.mode, coalesce(d.lane, '(none)') AS lane, d.decided_at, d.outcome, d.reason_code, d.fallback,
        greatest(everywhere.at, here.at) AS restarted_at,
        d.decided_at >= greatest(now() - interval '1 hour', everywhere.at, here.at) AS counted
    FROM model_routing_decisions AS d
    LEFT JOIN restarts AS everywhere
        ON everywhere.journal = d.journal AND everywhere.lane = d.lane AND everywhere.pool IS NULL
    LEFT JOIN restarts AS here ON here.journal = d.journal AND here.lane = d.lane AND here.pool = d.pool
    WHERE d.decided_at >= now() - interval '24 hours'
), lanes AS (
    SELECT
        journal, mode, lane,
        count(*) FILTER (WHERE counted)                                                     AS decisions,
        count(*) FILTER (WHERE counted AND outcome = 'routed')                              AS routed,
        count(*) FILTER (WHERE counted AND outcome = 'routed' AND reason_code = 'router_error') AS router_errors,
        count(*) FILTER (WHERE counted AND outcome = 'routed' AND fallback)                 AS fallbacks,
        max(decided_at)                                                                     AS last_decided_at,
        max(restarted_at)                                                                   AS restarted_at
    FROM decided
    GROUP BY journal, mode, lane
), shares AS (
    SELECT
        lanes.*,
        round(router_errors / nullif(routed, 0)::numeric, 4) AS router_error_share,
        round(fallbacks / nullif(routed, 0)::numeric, 4)     AS fallback_share
    FROM lanes
)
SELECT
    journal, mode, lane,
    CASE
        WHEN decisions = 0 THEN 'idle'
        WHEN router_error_share >= 0.05 THEN 'degraded'
        WHEN fallback_share >= 0.20 THEN 'elevated_fallback'
        ELSE 'healthy'
    END AS state,
    decisions, routed, router_errors, router_error_share, fallbacks, fallback_share, last_decided_at, restarted_at
FROM shares;

COMMENT ON VIEW v_lane_health IS 'How each lane seen in the last 24 h fared in the last hour, since it was last restarted';

CREATE OR REPLACE VIEW v_audit_check AS
WITH kept AS (
    -- Where days were dropped, a step of the first day kept may have lost decisions of the day before.
    SELECT coalesce((max(before) + 1)::timestamp AT TIME ZONE 'UTC', '-infinity') AS since FROM audit_dropped
), linked AS (
    SELECT
        journal, partition, seq, now, decisions, work, controls, money,
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
        coalesce(sum(work) FILTER (WHERE now >= since), 0) AS work_told,
        coalesce(sum(controls) FILTER (WHERE now >= since), 0) AS controls_told,
        coalesce(sum(money) FILTER (WHERE now >= since), 0) AS money_told
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
), said AS (
    SELECT s.journal, s.partition, count(*) AS found
    FROM steps s JOIN fleet_controls_taken c USING (journal, partition)
    WHERE c.seq >= s.from_seq
    GROUP BY s.journal, s.partition
), moved AS (
    SELECT s.journal, s.partition, count(*) AS found
    FROM steps s JOIN budget_movements m USING (journal, partition)
    WHERE m.seq >= s.from_seq
    GROUP BY s.journal, s.partition
)
SELECT
    journal, partition, first_seq, last_seq, steps,
    last_seq - first_seq + 1 - steps AS steps_missing,
    links_broken,
    decisions_told, coalesce(decided.found, 0) AS decisions_found,
    work_told, coalesce(worked.found, 0) AS work_found,
    controls_told, coalesce(said.found, 0) AS controls_found,
    money_told, coalesce(moved.found, 0) AS money_found
FROM steps
LEFT JOIN decided USING (journal, partition)
LEFT JOIN worked USING (journal, partition)
LEFT JOIN said USING (journal, partition)
LEFT JOIN moved USING (journal, partition);

GRANT SELECT ON
    v_fleet_controls_taken, v_budget_movements, v_fleet_controls, v_budgets, v_lane_health
TO slotwise_read;
