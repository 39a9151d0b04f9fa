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
    input_topic, input_offset, flags, fallback, priced_at, asked, title, chosen_provider, chosen_account, waiting_since,
    mode, policy, catalog, input_partition, journal
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

-- roll_up --
-- Take the steps just written into the hourly sums.
SELECT audit_roll_up(%(journal)s, %(partition)s, %(rows_max)s, %(written_from)s, %(earliest)s)

-- merge --
-- Copy sums of hours and days that are over into one row a key, some at a time; what is stale after five minutes again.
SELECT audit_merge(%(journal)s, %(spans_max)s, interval '3 days', interval '5 minutes')

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

-- find --
-- The last decision about each task whose title has words that begin with all of these, newest first; a routed or waiting
-- one before the end that followed it, because it says why. Views only.
WITH asked AS (
    SELECT string_agg(quote_literal(word) || ':*', ' & ')::tsquery AS words
    FROM unnest(tsvector_to_array(audit_words(%(words)s))) AS word
), hits AS (
    SELECT DISTINCT ON (journal, pool, task_id)
        journal, mode, pool, task_id, title, outcome, decided_at, attempt, chosen_slot_id, chosen_model, tier,
        reason_code, reason, decision_id, seq
    FROM v_model_routing_decisions
    WHERE title IS NOT NULL AND audit_words(title) @@ (SELECT words FROM asked)
        AND decided_at >= %(since)s
        AND (%(pool)s::text IS NULL OR pool = %(pool)s)
        AND (%(mode)s::text IS NULL OR mode = %(mode)s)
    ORDER BY journal, pool, task_id, outcome NOT IN ('routed', 'waiting'), decided_at DESC, seq DESC
)
SELECT *, count(*) OVER () AS hits FROM hits ORDER BY decided_at DESC, seq DESC, task_id LIMIT %(rows_max)s

-- titled --
-- Whether there is a decision to be searched, and whether one has a title. Views only.
SELECT
    EXISTS (SELECT FROM v_model_routing_decisions AS d WHERE d.decided_at >= %(since)s
        AND (%(pool)s::text IS NULL OR d.pool = %(pool)s) AND (%(mode)s::text IS NULL OR d.mode = %(mode)s)),
    EXISTS (SELECT FROM v_model_routing_decisions AS d WHERE d.title IS NOT NULL AND d.decided_at >= %(since)s
        AND (%(pool)s::text IS NULL OR d.pool = %(pool)s) AND (%(mode)s::text IS NULL OR d.mode = %(mode)s))

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

-- was_replayed --
-- Whether another policy and catalogue were replayed, by their hashes. Views only.
SELECT EXISTS (
    SELECT FROM v_fleet_controls_taken
    WHERE kind = 'policy.proposed' AND journal = %(journal)s
        AND event ->> 'policy' = %(policy)s AND event ->> 'catalog' = %(catalog)s
        AND event ->> 'step' = 'replay' AND event ->> 'outcome' = 'done'
)

-- orders_about --
-- Operators' events that name a task: that it is cancelled, or run again. Views only.
SELECT journal, mode, pool, seq, kind, by, taken_at AS at
FROM v_fleet_controls_taken
WHERE kind IN ('task.cancelled', 'task.retried') AND event ->> 'task_id' = %(task_id)s
    AND taken_at >= %(since)s::timestamptz
    AND (%(pool)s::text IS NULL OR pool = %(pool)s)
    AND (%(mode)s::text IS NULL OR mode = %(mode)s)
ORDER BY journal, pool, seq
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
-- The last step of each partition that has rows, whichever they are, for the auditor.
SELECT partition, max(seq) FROM v_journal_steps WHERE journal = %(journal)s GROUP BY partition

-- last_steps --
-- The last step of each partition, with its place in the journal; one look into the index a partition. The sink asks
-- `standing`.
SELECT p.number, s.seq, s.journal_offset
FROM generate_series(0, %(partitions)s - 1) AS p (number)
CROSS JOIN LATERAL (
    SELECT seq, journal_offset
    FROM v_journal_steps
    WHERE journal = %(journal)s AND partition = p.number
    ORDER BY seq DESC
    LIMIT 1
) AS s

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

-- decisions_by_time --
-- Decisions behind one of them, the newest or the oldest first, by the primary key: {behind} and {order} are < and DESC, or
-- > and ASC; what is NULL excludes none, and (none) means those that do not say it, as in the sums. Compared without a
-- function, so that the planner knows how many match.
SELECT decided_at, decision_id, task_id, title, pool, outcome, reason_code, reason, chosen_model, chosen_provider,
    chosen_slot_id, tier, layer, lane, tenant_id, agent_role, complexity, ev, estimated_cost_usd, attempt, mode,
    partition, seq
FROM v_model_routing_decisions
WHERE (decided_at, decision_id) {behind} (%(at)s::timestamptz, %(id)s::uuid)
    AND (%(since)s::timestamptz IS NULL OR decided_at >= %(since)s::timestamptz)
    AND (%(until)s::timestamptz IS NULL OR decided_at < %(until)s::timestamptz)
    AND (%(pool)s::text IS NULL OR pool = %(pool)s)
    AND (%(model)s::text IS NULL OR chosen_model = %(model)s OR %(model)s = '(none)' AND chosen_model IS NULL)
    AND (%(layer)s::text IS NULL OR layer = %(layer)s OR %(layer)s = '(none)' AND layer IS NULL)
    AND (%(lane)s::text IS NULL OR lane = %(lane)s OR %(lane)s = '(none)' AND lane IS NULL)
    AND (%(reason)s::text IS NULL OR reason_code = %(reason)s)
    AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
    AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s OR %(tenant)s = '(none)' AND tenant_id IS NULL)
    AND (%(role)s::text IS NULL OR agent_role = %(role)s OR %(role)s = '(none)' AND agent_role IS NULL)
    AND (%(provider)s::text IS NULL OR chosen_provider = %(provider)s OR %(provider)s = '(none)' AND chosen_provider IS NULL)
    AND (%(tier)s::text IS NULL OR tier = nullif(%(tier)s, '(none)')::integer OR %(tier)s = '(none)' AND tier IS NULL)
    AND (%(complexity)s::text IS NULL OR complexity = %(complexity)s OR %(complexity)s = '(none)' AND complexity IS NULL)
    AND (%(mode)s::text IS NULL OR mode = %(mode)s)
    AND (%(ev_from)s::double precision IS NULL OR ev >= %(ev_from)s)
    AND (%(ev_below)s::double precision IS NULL OR ev < %(ev_below)s)
    AND (%(journal)s::text IS NULL OR journal = %(journal)s)
ORDER BY decided_at {order}, decision_id {order}
LIMIT %(rows_max)s

-- hours_with --
-- The hours that have decisions with this key, by the hourly sums.
SELECT DISTINCT hour
FROM v_stats_hours
WHERE by = %(by)s AND key = %(key)s::text[] AND decisions > 0
    AND hour >= date_trunc('hour', %(first)s::timestamptz, 'UTC') AND hour <= %(last)s::timestamptz

-- summed --
-- Whether hourly sums say in which hours to search: they have every step, and the time is not longer than a week or so.
SELECT %(first)s::timestamptz >= least(%(last)s::timestamptz, now()) - interval '8 days'
    AND NOT EXISTS (SELECT FROM v_stats_progress WHERE seqs_behind > 0)

-- lane_health --
-- How each lane of a journal fared in the last hour.
SELECT lane, state, decisions, routed, router_errors, router_error_share, fallbacks, fallback_share, last_decided_at,
    restarted_at
FROM v_lane_health
WHERE journal = %(journal)s AND mode = 'live'
ORDER BY lane

-- stats --
-- Sums since the hour of a time, by one thing; `all` beside it, for the headline.
SELECT by, key, decisions, routed, waiting, ended, fallbacks, fallback_share, router_errors, router_error_share,
    wait_p50_s, wait_p95_s, wait_max_s, finished, failed, failed_share, input_tokens, output_tokens, estimated_usd,
    spent_usd, usd_per_task, usd_per_million_tokens, saved_vs_premium_usd, saved_vs_next_free_usd, quality_n,
    quality_mean, quality_low, quality_high
FROM stats_since(%(since)s, %(pool)s, %(by)s)
WHERE journal = %(journal)s AND mode = 'live'
ORDER BY by, routed DESC, decisions DESC, key

-- stats_quality --
-- Reported quality by model and complexity.
SELECT model, complexity, n, mean, low, high, finished, failed
FROM stats_quality_since(%(since)s, %(pool)s)
WHERE journal = %(journal)s AND mode = 'live'
ORDER BY complexity, mean DESC NULLS LAST, model

-- stats_tiers --
-- The tier mix of each hour.
SELECT hour, tier, routed, share, spent_usd
FROM stats_tiers_since(%(since)s, %(pool)s)
WHERE journal = %(journal)s AND mode = 'live'
ORDER BY hour, tier

-- stats_evs --
-- Routed tasks by EV step and model.
SELECT CASE WHEN ev_from > '-infinity' THEN ev_from END AS ev_from, model, routed
FROM stats_evs_since(%(since)s, %(pool)s)
WHERE journal = %(journal)s AND mode = 'live'
ORDER BY stats_evs_since.ev_from, routed DESC, model

-- stats_progress --
-- How many numbers of steps of a journal are not in the sums.
SELECT coalesce(sum(seqs_behind), 0)::bigint AS steps_behind FROM v_stats_progress WHERE journal = %(journal)s

-- shadow_run --
-- The run of a shadow that is under way.
SELECT run, policy, catalog, journal, fleet FROM shadow_runs WHERE name = %(name)s AND stop_asked_at IS NULL

-- shadow_begin --
-- Begin a run; of two that begin at once the first counts.
INSERT INTO shadow_runs (run, name, policy, catalog, journal, fleet, started_at)
VALUES (%(run)s, %(name)s, %(policy)s, %(catalog)s, %(journal)s, %(fleet)s, now())
ON CONFLICT DO NOTHING

-- shadow_end --
-- Ask the processes of a shadow to end; a run that is asked is over.
UPDATE shadow_runs SET stop_asked_at = now() WHERE name = %(name)s AND stop_asked_at IS NULL RETURNING run

-- shadow_forget --
-- Remove the runs of a shadow with all that they found.
DELETE FROM shadow_runs WHERE name = %(name)s RETURNING run

-- shadow_over --
-- Whether a run is to end: it was asked to, or removed.
SELECT NOT EXISTS (SELECT FROM shadow_runs WHERE run = %(run)s AND stop_asked_at IS NULL)

-- shadow_place --
-- Where a run begins in a partition; a partition that another process has placed stays.
INSERT INTO shadow_progress (run, partition, seq, journal_offset, record_sha256, chain_sha256, journal_id, sums)
VALUES (%(run)s, %(partition)s, %(seq)s, %(offset)s, %(sha256)s, %(chain)s, %(journal_id)s, %(sums)s)
ON CONFLICT DO NOTHING

-- shadow_positions --
-- The last step of each partition that a run has compared.
SELECT partition, seq, journal_offset, record_sha256, chain_sha256, journal_id
FROM shadow_progress WHERE run = %(run)s

-- shadow_go_on --
-- The fence: another process of the run that was quicker has changed the number.
UPDATE shadow_progress
SET seq = %(seq)s, journal_offset = %(offset)s, record_sha256 = %(sha256)s, chain_sha256 = %(chain)s,
    journal_id = %(journal_id)s, sums = %(sums)s
WHERE run = %(run)s AND partition = %(partition)s AND seq = %(before)s

-- shadow_differ --
-- One difference; found again, it stays as it is.
INSERT INTO shadow_differences (
    run, difference_id, name, kind, partition, seq, decided_at, pool, task_id, attempt, priority, title, ev, layer, lane,
    tenant_id, task_type, policy, catalog, live_policy, live_catalog, live, shadow
) VALUES (
    %(run)s, %(difference_id)s, %(name)s, %(kind)s, %(partition)s, %(seq)s, %(decided_at)s, %(pool)s, %(task_id)s,
    %(attempt)s, %(priority)s, %(title)s, %(ev)s, %(layer)s, %(lane)s, %(tenant_id)s, %(task_type)s, %(policy)s,
    %(catalog)s, %(live_policy)s, %(live_catalog)s, %(live)s, %(shadow)s
) ON CONFLICT DO NOTHING

-- shadow_status --
-- The runs of shadows, the latest first, each with its partitions. Views only.
SELECT r.run, r.name, r.policy, r.catalog, r.journal, r.fleet, r.started_at, r.stop_asked_at,
    coalesce(
        jsonb_agg(jsonb_build_object('partition', p.partition, 'seq', p.seq, 'offset', p.journal_offset, 'sums', p.sums)
            ORDER BY p.partition) FILTER (WHERE p.run IS NOT NULL),
        '[]'
    ) AS partitions
FROM v_shadow_runs AS r LEFT JOIN v_shadow_progress AS p USING (run)
WHERE %(name)s::text IS NULL OR r.name = %(name)s
GROUP BY r.run, r.name, r.policy, r.catalog, r.journal, r.fleet, r.started_at, r.stop_asked_at
ORDER BY r.stop_asked_at IS NOT NULL, r.started_at DESC
LIMIT %(rows_max)s

-- shadow_differences --
-- Differences of a run: changed choices first, then the latest. Views only.
SELECT *, count(*) OVER () AS found
FROM v_shadow_differences
WHERE run = %(run)s AND (%(kind)s::text IS NULL OR kind = %(kind)s)
ORDER BY array_position(%(order)s::text[], kind), decided_at DESC, seq DESC, task_id
LIMIT %(rows_max)s

-- shadow_lag --
-- How far the runs that are under way have read the journal. Views only.
SELECT r.name, p.partition, p.seq, p.journal_offset
FROM v_shadow_runs AS r JOIN v_shadow_progress AS p USING (run)
WHERE r.stop_asked_at IS NULL AND r.journal = %(journal)s

-- shadow_choices --
-- What workers that route nothing decided about each task: the first time that it was routed, else the last decision. Views only.
SELECT DISTINCT ON (pool, task_id)
    pool, task_id, outcome, chosen_model AS model, tier, reason_code, reason, decided_at, title,
    estimated_cost_usd::double precision AS estimated_usd
FROM v_model_routing_decisions
WHERE mode = 'shadow' AND journal = %(journal)s
ORDER BY pool, task_id, outcome <> 'routed', CASE WHEN outcome = 'routed' THEN decided_at END, decided_at DESC, seq DESC
