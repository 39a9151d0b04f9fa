-- A day of an installation in the audit's own tables, made by the database: %(decisions)s decisions in about so many
-- seconds as a sink would need minutes. 38 % of the tasks wait first; waits and service times are lognormal, the day has a
-- busy half, tenants and lanes are as unequal as Zipf has them. Rows come in the order of time, as a sink writes them.

-- tasks --
CREATE TEMP TABLE made_task AS
SELECT
    n, task_id, partition, (%(pools)s::text[])[partition + 1] AS pool, at,
    CASE WHEN chance_wait < 0.61 THEN least(7200, exp(3.4 + 1.3 * normal_wait)) * interval '1 s' END AS wait,
    exp(4.1 + normal_work) * interval '1 s' AS takes,
    chance_end < 0.02 AS ends,
    'tenant-' || floor(exp(ln(200) * chance_tenant)) AS tenant_id,
    'lane-' || floor(exp(ln(20) * chance_lane)) AS lane,
    'role-' || floor(exp(ln(15) * chance_role)) AS agent_role,
    (ARRAY['docs', 'api', 'app', 'tests', 'infra', 'data'])[1 + floor(6 * chance_layer)] AS layer,
    (ARRAY['trivial', 'simple', 'standard', 'complex', 'expert'])[1 + floor(5 * chance_class ^ 1.5)] AS complexity,
    -- Cheaper models do more.
    1 + floor(9 * chance_model ^ 0.7)::integer AS of_model,
    round(exp(1 + normal_ev)::numeric, 3)::double precision AS ev,
    (ARRAY[30, 50, 50, 50, 70, 90])[1 + floor(6 * chance_priority)] AS priority,
    concat_ws(
        ' ', (ARRAY['Fix', 'Write', 'Review', 'Answer', 'Summarise', 'Move'])[1 + floor(6 * chance_word)],
        'part-' || floor(exp(ln(3000) * chance_part)), 'of', 'module-' || floor(400 * chance_module)
    ) AS title,
    round((0.002 * exp(1.2 * normal_cost))::numeric, 6) AS cost_usd
FROM (
    SELECT
        n, 'made-' || n AS task_id,
        CASE WHEN chance < 0.4 THEN 0 WHEN chance < 0.7 THEN 1 WHEN chance < 0.9 THEN 2 ELSE 3 END AS partition,
        -- Milliseconds, as everything that is accepted.
        date_trunc('milliseconds', now() - interval '24 h' * (when_ + 0.1 * sin(2 * pi() * when_))) AS at,
        random() AS chance_wait, random_normal() AS normal_wait, random_normal() AS normal_work, random() AS chance_end,
        random() AS chance_tenant, random() AS chance_lane, random() AS chance_role, random() AS chance_layer,
        random() AS chance_class, random() AS chance_model, random_normal() AS normal_ev, random() AS chance_priority,
        random() AS chance_word, random() AS chance_part, random() AS chance_module, random_normal() AS normal_cost
    FROM (SELECT n, random() AS chance, random() AS when_ FROM generate_series(1, (%(decisions)s * 0.621)::integer) AS n)
) AS drawn

-- decisions --
CREATE TEMP TABLE made_decision AS
SELECT *, (row_number() OVER (PARTITION BY partition ORDER BY decided_at, n, outcome DESC) - 1) / 50 AS seq
FROM (
    SELECT *, at AS decided_at, 'waiting' AS outcome FROM made_task WHERE wait IS NOT NULL
    UNION ALL
    SELECT
        *, date_trunc('milliseconds', at + coalesce(wait, interval '0')),
        CASE WHEN ends THEN 'cancelled' ELSE 'routed' END
    FROM made_task
) AS every
WHERE decided_at < now()

-- steps --
CREATE TEMP TABLE made_step AS
SELECT partition, seq, max(decided_at) AS now, count(*) AS decisions
FROM made_decision
GROUP BY partition, seq

-- steps_by_time --
CREATE INDEX ON made_step (partition, now)

-- write_decisions --
INSERT INTO model_routing_decisions (
    decision_id, partition, seq, pool, task_id, outcome, chosen_slot_id, chosen_model, tier, alternatives, reason_code,
    reason, decided_at, at, layer, lane, agent_role, task_type, tenant_id, complexity, strategy, priority, ev,
    ev_percentile, p50, p90, lifted, utilisation, estimated_cost_usd, saved_vs_premium_usd, saved_vs_next_free_usd,
    propensity, attempt, lease, max_tokens, mode, policy, catalog, input_topic, input_partition, input_offset, journal,
    flags, fallback, priced_at, asked, title, chosen_provider, chosen_account, waiting_since
)
SELECT
    md5(n || outcome)::uuid, partition, seq, pool, task_id, outcome,
    CASE WHEN routed THEN model || '-' || n %% 40 END, CASE WHEN routed THEN model END, CASE WHEN routed THEN tier END,
    %(alternatives)s::jsonb,
    CASE WHEN routed THEN 'cheapest_capable' WHEN outcome = 'waiting' THEN 'capable_busy' ELSE 'cancelled' END,
    CASE
        WHEN routed THEN 'Lowest capable tier; ' || model || '-' || n %% 40 || ' has been idle longest.'
        ELSE 'Every capable slot is busy; the first lease ends in some minutes.'
    END,
    decided_at, at, layer, lane, agent_role, 'code', tenant_id, complexity, 'cheapest_capable', priority, ev,
    0.5, 2.7, 9.8, false, 0.8, CASE WHEN routed THEN cost_usd END, CASE WHEN routed THEN 4 * cost_usd END,
    CASE WHEN routed THEN 2 * cost_usd END, 1, 1, CASE WHEN routed THEN n END, CASE WHEN routed THEN 4096 END, 'live',
    'policy-hash', 'catalog-hash', 'task.pending', partition, n, %(journal)s,
    '{}', routed AND n %% 7 = 0, CASE WHEN routed THEN date '2026-11-01' END,
    CASE WHEN outcome = 'waiting' OR wait IS NULL THEN '{"requires": {"coding": 5}, "input_tokens": 2000}'::jsonb END,
    title, CASE WHEN routed THEN provider END, CASE WHEN routed THEN 'account-' || n %% 2 END, at
FROM (
    SELECT
        *, outcome = 'routed' AS routed,
        (ARRAY['opus', 'gpt-5', 'sonnet', 'codex', 'haiku', 'minimax', 'glm', 'gemini-flash', 'local'])[of_model]
            AS model,
        (ARRAY[3, 3, 2, 2, 1, 1, 1, 1, 1])[of_model] AS tier,
        (ARRAY['anthropic', 'openai', 'anthropic', 'openai', 'anthropic', 'minimax', 'zhipu', 'google', 'local'])
            [of_model] AS provider
    FROM made_decision
) AS named
ORDER BY decided_at

-- write_outcomes --
INSERT INTO model_routing_outcomes (
    decision_id, partition, seq, pool, task_id, slot_id, model, lease, settled_at, at, status, input_tokens,
    output_tokens, cost_usd, latency_s, quality, accepted, mode, journal, actual_cost_usd
)
SELECT
    md5(n || outcome)::uuid, d.partition, step.seq, pool, task_id, 'slot', 'model', n, step.now, step.now,
    CASE WHEN n %% 25 = 0 THEN 'failure' ELSE 'success' END, 500 + n %% 4000, 100 + n %% 1500, cost_usd,
    extract(epoch FROM takes), CASE WHEN n %% 3 = 0 THEN round(0.6 + 0.4 * (n %% 100) / 100.0, 2) END, true, 'live',
    %(journal)s, cost_usd
FROM made_decision AS d
CROSS JOIN LATERAL (
    SELECT s.seq, s.now FROM made_step AS s
    WHERE s.partition = d.partition AND s.now >= d.decided_at + d.takes
    ORDER BY s.now LIMIT 1
) AS step
WHERE outcome = 'routed'
ORDER BY step.now

-- write_steps --
INSERT INTO journal_steps (
    journal, partition, seq, journal_offset, now, mode, inputs, rejected, decisions, work, record_sha256, chain_sha256
)
SELECT
    %(journal)s, s.partition, s.seq, s.seq, s.now, 'live', 64, 0, s.decisions, coalesce(o.work, 0),
    sha256(convert_to(s.partition || '-' || s.seq, 'UTF8')), sha256(convert_to(s.seq || '-' || s.partition, 'UTF8'))
FROM made_step AS s
LEFT JOIN (
    SELECT partition, seq, count(*) AS work FROM model_routing_outcomes GROUP BY partition, seq
) AS o ON o.partition = s.partition AND o.seq = s.seq
ORDER BY s.now
