-- standing --
-- The position of the audit in a journal: the last step of each partition.
SELECT partition, seq, journal_offset, record_sha256, chain_sha256, journal_id FROM journal_position(%(journal)s)

-- make_partition --
-- Have a day's partitions made before its first rows are written.
SELECT audit_make_partition(%(day)s::date)

-- copy_steps --
-- The fence: if another sink wrote one of these numbers first, the whole transaction fails.
COPY journal_steps (
    journal, partition, seq, journal_offset, now, mode, inputs, rejected, decisions, work, controls, money, duplicates,
    record_sha256, chain_sha256, journal_id
) FROM STDIN

-- copy_decisions --
-- Decisions of the steps just written; COPY needs only INSERT and is the fastest way to write.
COPY model_routing_decisions (
    partition, seq, decision_id, pool, task_id, outcome, chosen_slot_id, chosen_model, tier, alternatives,
    reason_code, reason, decided_at, at, layer, lane, agent_role, task_type, tenant_id, complexity,
    strategy, objective, priority, ev, ev_percentile, p50, p90, lifted, utilisation,
    estimated_cost_usd, saved_vs_premium_usd, saved_vs_next_free_usd, propensity, attempt, lease, max_tokens,
    input_topic, input_offset, flags, fallback, priced_at, asked, mode, policy, catalog, input_partition, journal
) FROM STDIN

-- copy_outcomes --
-- Outcomes in the steps just written.
COPY model_routing_outcomes (
    partition, seq, decision_id, pool, task_id, slot_id, model, lease, at,
    status, input_tokens, output_tokens, cost_usd, latency_s, quality, accepted, error_class, fit,
    actual_cost_usd, settled_at, mode, journal
) FROM STDIN

-- copy_controls --
-- Operators' events in the steps just written.
COPY fleet_controls_taken (
    partition, seq, control_id, kind, by, pool, at, taken_at, event, mode, journal
) FROM STDIN

-- copy_money --
-- Movements of budgets in the steps just written.
COPY budget_movements (
    partition, seq, place, pool, tenant_id, kind, amount_usd, decision_id, control_id, at, mode, journal
) FROM STDIN

-- explain --
-- Every decision about a task in order, each with the outcome of the work it started and the money it moved. Views only.
SELECT
    d.*,
    o.status AS work_status, o.at AS work_ended_at, o.cost_usd AS work_cost_usd, o.latency_s AS work_latency_s,
    o.quality AS work_quality, o.accepted AS work_accepted, o.error_class AS work_error_class, o.fit AS work_fit,
    o.input_tokens AS work_input_tokens, o.output_tokens AS work_output_tokens,
    o.actual_cost_usd AS work_actual_cost_usd,
    (
        SELECT jsonb_agg(
            jsonb_build_object(
                'kind', m.kind, 'amount_usd', m.amount_usd,
                'at', to_char(m.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
            ) ORDER BY m.at, m.seq, m.place
        )
        FROM v_budget_movements AS m
        WHERE m.decision_id = d.decision_id AND m.journal = d.journal AND m.at >= d.decided_at
    ) AS money
FROM v_model_routing_decisions AS d
LEFT JOIN v_model_routing_outcomes AS o
    ON o.decision_id = d.decision_id AND o.journal = d.journal AND o.task_id = d.task_id
WHERE d.task_id = %(task_id)s
    AND (%(pool)s::text IS NULL OR d.pool = %(pool)s)
    AND (%(mode)s::text IS NULL OR d.mode = %(mode)s)
ORDER BY d.journal, d.pool, d.decided_at, d.seq
LIMIT %(rows_max)s

-- sent_again --
-- When a task was sent again after its end, for nothing. Views only.
SELECT s.journal, s.mode, again ->> 'pool' AS pool, s.seq,
    again ->> 'at' AS at, again ->> 'ended' AS ended, again ->> 'ended_at' AS ended_at
FROM v_journal_steps AS s CROSS JOIN LATERAL jsonb_array_elements(s.duplicates) AS again
WHERE s.duplicates @> jsonb_build_array(jsonb_build_object('task_id', %(task_id)s::text))
    AND again ->> 'task_id' = %(task_id)s
    AND (%(pool)s::text IS NULL OR again ->> 'pool' = %(pool)s)
    AND (%(mode)s::text IS NULL OR s.mode = %(mode)s)
ORDER BY s.journal, again ->> 'pool', s.seq
LIMIT %(rows_max)s

-- marks_before --
-- The last operators' event before a decision, for each of these kinds and each thing that it names; of reports of a quota
-- the newest, whenever it came: one that is dated ahead counts as of when it came.
SELECT event, taken_at
FROM (
    SELECT DISTINCT ON (
            kind, pool, event ->> 'product', event ->> 'model', event ->> 'account', event ->> 'window'
        )
        event, taken_at, seq
    FROM v_fleet_controls_taken
    WHERE journal = %(journal)s AND partition = %(partition)s AND (pool IS NULL OR pool = %(pool)s)
        AND kind = ANY(%(kinds)s)
        AND seq <= %(seq)s
    ORDER BY
        kind, pool, event ->> 'product', event ->> 'model', event ->> 'account', event ->> 'window',
        CASE kind WHEN 'quota.updated' THEN least(at, taken_at) END DESC, taken_at DESC, seq DESC
) AS last
ORDER BY taken_at, seq
LIMIT %(rows_max)s

-- credit_before --
-- A tenant's available credit before a decision: the present one less later movements; no row without a budget.
SELECT b.available_usd - (
    SELECT coalesce(
        sum(
            CASE
                WHEN m.kind IN ('credit', 'release') THEN m.amount_usd
                WHEN m.kind = 'reserve' THEN - m.amount_usd
                ELSE coalesce(reserved.amount_usd, 0) - m.amount_usd
            END
        ),
        0
    )
    FROM v_budget_movements AS m
    LEFT JOIN v_budget_movements AS reserved
        ON m.kind = 'settle' AND reserved.kind = 'reserve' AND reserved.journal = m.journal
            AND reserved.decision_id = m.decision_id
            -- What was released is available again: late work is consumed from there.
            AND NOT EXISTS (
                SELECT FROM v_budget_movements AS released
                WHERE released.kind = 'release' AND released.journal = m.journal
                    AND released.decision_id = m.decision_id
            )
    WHERE m.journal = b.journal AND m.pool = b.pool AND m.tenant_id = b.tenant_id
        AND (m.seq > %(seq)s OR m.decision_id = %(decision_id)s)
) AS available_usd
FROM v_budgets AS b
WHERE b.journal = %(journal)s AND b.pool = %(pool)s AND b.tenant_id = %(tenant_id)s

-- check --
-- Counts of missing and differing rows, one line a partition.
SELECT * FROM v_audit_check WHERE %(journal)s::text IS NULL OR journal = %(journal)s ORDER BY journal, partition

-- gaps --
-- Numbers without a step, as ranges; a complete audit has none.
SELECT journal, partition, seq + 1 AS from_seq, next_seq - 1 AS to_seq
FROM (
    SELECT journal, partition, seq, lead(seq) OVER (PARTITION BY journal, partition ORDER BY seq) AS next_seq
    FROM v_journal_steps
    WHERE %(journal)s::text IS NULL OR journal = %(journal)s
) AS steps
WHERE next_seq > seq + 1
ORDER BY journal, partition, seq
LIMIT %(rows_max)s

-- disagreements --
-- Steps whose number of decisions differs from the rows in the audit; for a difference that `check` finds.
SELECT s.journal, s.partition, s.seq, s.journal_offset, s.decisions AS decisions_told, count(d.decision_id) AS decisions_found
FROM v_journal_steps AS s
LEFT JOIN v_model_routing_decisions AS d
    ON d.journal = s.journal AND d.partition = s.partition AND d.seq = s.seq
WHERE %(journal)s::text IS NULL OR s.journal = %(journal)s
GROUP BY s.journal, s.partition, s.seq, s.journal_offset, s.decisions
HAVING s.decisions <> count(d.decision_id)
ORDER BY s.journal, s.partition, s.seq
LIMIT %(rows_max)s

-- stands --
-- The last step of each partition that stands here, for readers of views; the sink asks `standing`.
SELECT partition, max(seq) FROM v_journal_steps WHERE journal = %(journal)s GROUP BY partition

-- steps_between --
-- Steps of a partition with the place and the hash of their journal records, to be compared with the journal.
SELECT seq, journal_offset, record_sha256
FROM v_journal_steps
WHERE journal = %(journal)s AND partition = %(partition)s AND seq BETWEEN %(from_seq)s AND %(to_seq)s

-- decisions_between --
-- Ids of the decisions of those steps.
SELECT seq, decision_id
FROM v_model_routing_decisions
WHERE journal = %(journal)s AND partition = %(partition)s AND seq BETWEEN %(from_seq)s AND %(to_seq)s

-- lane_health --
-- How each lane of a journal fared in the last hour.
SELECT lane, state, decisions, routed, router_errors, router_error_share, fallbacks, fallback_share, last_decided_at,
    restarted_at
FROM v_lane_health
WHERE journal = %(journal)s AND mode = 'live'
ORDER BY lane
