-- The same sums at less cost: each row is added to its ten groups where it is (grouping sets), and no longer becomes ten
-- rows with a key of its own first. What it takes and what it makes is as in 0010.

-- SECURITY DEFINER: the sink may read no table. All it can do here is to have its own steps taken in.
CREATE OR REPLACE FUNCTION audit_roll_up(
    of_journal text, of_partition integer, rows_max bigint,
    written_from bigint DEFAULT NULL, earliest timestamptz DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
-- Some thousand outcomes look their decisions up by index. Statistics of a table that grows are always behind: with
-- them the planner may choose to read whole days.
SET enable_hashjoin = off
SET enable_mergejoin = off
-- Grouping by hashes costs a fourth of sorting by texts.
SET enable_sort = off
SET work_mem = '64MB'
SET jit = off
AS $$
DECLARE
    last_seq bigint;
    from_seq bigint;
    upto_seq bigint;
    steps    bigint;
    began    timestamptz;
    ended    timestamptz;
    previous timestamptz;
    lookback interval;
    whole    boolean := false;
BEGIN
    INSERT INTO stats_rolled VALUES (of_journal, of_partition, -1) ON CONFLICT DO NOTHING;
    SELECT rolled.seq INTO last_seq
    FROM stats_rolled AS rolled
    WHERE rolled.journal = of_journal AND rolled.partition = of_partition
    FOR UPDATE;
    -- As many whole steps as have so many rows, one at least.
    SELECT min(seq), max(seq), count(*), min(now), max(now) INTO from_seq, upto_seq, steps, began, ended
    FROM (
        SELECT seq, now, sum(decisions + work) OVER (ORDER BY seq) - decisions - work AS rows_before
        FROM (
            SELECT step.seq, step.now, step.decisions, step.work
            FROM journal_steps AS step
            WHERE step.journal = of_journal AND step.partition = of_partition AND step.seq > last_seq
            ORDER BY step.seq
            LIMIT greatest(rows_max, 1)
        ) AS next
    ) AS counted
    WHERE rows_before < rows_max OR rows_before = 0;
    IF upto_seq IS NULL THEN
        RETURN 0;
    END IF;
    -- A decision is dated between the step before its own and its own, so only the days in question are read. Before
    -- the first step of a journal there is none: who has just written it says so and from when on, else a month is
    -- searched.
    SELECT step.now INTO previous
    FROM journal_steps AS step
    WHERE step.journal = of_journal AND step.partition = of_partition AND step.seq <= last_seq
    ORDER BY step.seq DESC LIMIT 1;
    began := least(
        began,
        coalesce(previous, CASE WHEN written_from = from_seq THEN earliest END, began - interval '30 days')
    );
    -- Nearly all work ends within two days of its decision; where some did not, they are looked for in all days.
    FOREACH lookback IN ARRAY ARRAY[interval '2 days', interval '100 years'] LOOP
        EXECUTE format($roll$
            WITH work AS MATERIALIZED (
                SELECT
                    o.settled_at, o.mode, o.pool, o.model, o.status, o.input_tokens, o.output_tokens,
                    o.actual_cost_usd, o.quality::numeric AS quality,
                    d.decision_id IS NOT NULL AS known,
                    d.decided_at, d.agent_role, d.lane, d.tenant_id, d.layer, d.chosen_provider, d.chosen_model, d.tier,
                    d.complexity
                FROM model_routing_outcomes AS o
                LEFT JOIN model_routing_decisions AS d
                    ON d.task_id = o.task_id AND d.decision_id = o.decision_id AND d.journal = o.journal
                        AND d.decided_at BETWEEN %1$L::timestamptz - %3$L::interval AND %2$L::timestamptz
                WHERE o.settled_at BETWEEN %1$L AND %2$L
                    AND o.journal = $1 AND o.partition = $2 AND o.seq > $3 AND o.seq <= $4
            ), complete AS (
                SELECT coalesce(bool_and(known), true) OR %3$L::interval > interval '2 days' AS yes FROM work
            ), rows AS (
                SELECT
                    date_trunc('hour', decided_at, 'UTC') AS hour, mode, pool,
                    coalesce(agent_role, '(none)') AS role, coalesce(lane, '(none)') AS lane,
                    coalesce(tenant_id, '(none)') AS tenant, coalesce(layer, '(none)') AS layer,
                    coalesce(chosen_provider, '(none)') AS provider, coalesce(chosen_model, '(none)') AS model,
                    coalesce(tier::text, '(none)') AS tier, coalesce(complexity, '(none)') AS complexity,
                    outcome = 'routed' AS with_model, ev, decided_at AS made_at,
                    1 AS decisions,
                    (outcome = 'routed')::integer AS routed,
                    (outcome = 'waiting')::integer AS waiting,
                    (outcome NOT IN ('routed', 'waiting'))::integer AS ended,
                    (outcome = 'routed' AND fallback)::integer AS fallbacks,
                    (outcome = 'routed' AND reason_code = 'router_error')::integer AS router_errors,
                    CASE WHEN outcome = 'routed' THEN greatest(
                        0,
                        1000 * extract(epoch FROM decided_at - coalesce(
                            waiting_since, CASE WHEN attempt = 1 THEN at END
                        ))
                    )::bigint END AS wait_ms,
                    CASE WHEN outcome = 'routed' THEN estimated_cost_usd END AS estimated_usd,
                    saved_vs_premium_usd, saved_vs_next_free_usd,
                    0 AS finished, 0 AS failed, NULL::bigint AS input_tokens, NULL::bigint AS output_tokens,
                    NULL::numeric AS spent_usd, NULL::numeric AS quality
                FROM model_routing_decisions
                WHERE decided_at BETWEEN %1$L AND %2$L
                    AND journal = $1 AND partition = $2 AND seq > $3 AND seq <= $4
                UNION ALL
                SELECT
                    date_trunc('hour', coalesce(decided_at, settled_at), 'UTC'), mode, pool,
                    coalesce(agent_role, '(none)'), coalesce(lane, '(none)'), coalesce(tenant_id, '(none)'),
                    coalesce(layer, '(none)'), coalesce(chosen_provider, '(none)'), coalesce(chosen_model, model),
                    coalesce(tier::text, '(none)'), coalesce(complexity, '(none)'), true,
                    NULL, NULL,
                    0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL,
                    1, (status <> 'success')::integer, input_tokens, output_tokens,
                    actual_cost_usd, quality
                FROM work
            ), sums AS (
                SELECT
                    hour, mode, pool,
                    CASE
                        WHEN GROUPING(complexity) = 0 THEN 'role, complexity, model'
                        WHEN GROUPING(model, layer) = 0 THEN 'model, layer'
                        WHEN GROUPING(model) = 0 THEN 'model'
                        WHEN GROUPING(provider) = 0 THEN 'provider'
                        WHEN GROUPING(tier) = 0 THEN 'tier'
                        WHEN GROUPING(role) = 0 THEN 'role'
                        WHEN GROUPING(lane) = 0 THEN 'lane'
                        WHEN GROUPING(tenant) = 0 THEN 'tenant'
                        WHEN GROUPING(layer) = 0 THEN 'layer'
                        ELSE 'all'
                    END AS by,
                    CASE
                        WHEN GROUPING(complexity) = 0 THEN ARRAY[role, complexity, model]
                        WHEN GROUPING(model, layer) = 0 THEN ARRAY[model, layer]
                        WHEN GROUPING(model) = 0 THEN ARRAY[model]
                        WHEN GROUPING(provider) = 0 THEN ARRAY[provider]
                        WHEN GROUPING(tier) = 0 THEN ARRAY[tier]
                        WHEN GROUPING(role) = 0 THEN ARRAY[role]
                        WHEN GROUPING(lane) = 0 THEN ARRAY[lane]
                        WHEN GROUPING(tenant) = 0 THEN ARRAY[tenant]
                        WHEN GROUPING(layer) = 0 THEN ARRAY[layer]
                        ELSE ARRAY[]::text[]
                    END AS key,
                    sum(decisions) AS decisions, sum(routed) AS routed, sum(waiting) AS waiting, sum(ended) AS ended,
                    sum(fallbacks) AS fallbacks, sum(router_errors) AS router_errors,
                    count(wait_ms) AS waits, coalesce(sum(wait_ms), 0) AS wait_ms,
                    coalesce(sum(estimated_usd), 0) AS estimated_usd,
                    coalesce(sum(saved_vs_premium_usd), 0) AS saved_vs_premium_usd,
                    coalesce(sum(saved_vs_next_free_usd), 0) AS saved_vs_next_free_usd,
                    sum(finished) AS finished, sum(failed) AS failed,
                    coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(output_tokens), 0) AS output_tokens,
                    coalesce(sum(spent_usd), 0) AS spent_usd,
                    coalesce(sum(spent_usd) FILTER (WHERE input_tokens + output_tokens > 0), 0) AS metered_usd,
                    coalesce(sum(input_tokens + output_tokens) FILTER (WHERE spent_usd IS NOT NULL), 0)
                        AS metered_tokens,
                    count(quality) AS quality_n, coalesce(sum(quality), 0) AS quality_sum,
                    coalesce(sum(quality * quality), 0) AS quality_squares,
                    coalesce(max(wait_ms), 0) AS wait_ms_max, max(made_at) AS last_decided_at
                FROM rows
                GROUP BY hour, mode, pool, GROUPING SETS (
                    (), (role), (lane), (tenant), (layer), (with_model, provider), (with_model, model),
                    (with_model, tier), (with_model, model, layer), (with_model, role, complexity, model)
                )
                HAVING GROUPING(with_model) = 1 OR with_model
            ), waits AS (
                SELECT
                    hour, mode, pool, wait_ms,
                    CASE
                        WHEN GROUPING(model) = 0 THEN 'model'
                        WHEN GROUPING(provider) = 0 THEN 'provider'
                        WHEN GROUPING(tier) = 0 THEN 'tier'
                        WHEN GROUPING(role) = 0 THEN 'role'
                        WHEN GROUPING(lane) = 0 THEN 'lane'
                        WHEN GROUPING(tenant) = 0 THEN 'tenant'
                        WHEN GROUPING(layer) = 0 THEN 'layer'
                        ELSE 'all'
                    END AS by,
                    -- One of them at most is grouped by; the others are null.
                    array_remove(ARRAY[coalesce(model, provider, tier, role, lane, tenant, layer)], NULL) AS key,
                    count(*) AS routed
                FROM (
                    SELECT
                        hour, mode, pool, role, lane, tenant, layer, provider, model, tier,
                        stats_wait_step(wait_ms) AS wait_ms
                    FROM rows
                    WHERE wait_ms IS NOT NULL
                ) AS waited
                GROUP BY hour, mode, pool, wait_ms, GROUPING SETS (
                    (), (role), (lane), (tenant), (layer), (provider), (model), (tier)
                )
            ), put_sums AS (
                INSERT INTO stats_hours AS old (
                    hour, by, key, journal, partition, mode, pool, decisions, routed, waiting, ended, fallbacks,
                    router_errors, waits, wait_ms, estimated_usd, saved_vs_premium_usd, saved_vs_next_free_usd,
                    finished, failed, input_tokens, output_tokens, spent_usd, metered_usd, metered_tokens, quality_n,
                    quality_sum, quality_squares, wait_ms_max, last_decided_at
                )
                SELECT
                    hour, by, key, $1, $2, mode, pool, decisions, routed, waiting, ended, fallbacks,
                    router_errors, waits, wait_ms, estimated_usd, saved_vs_premium_usd, saved_vs_next_free_usd,
                    finished, failed, input_tokens, output_tokens, spent_usd, metered_usd, metered_tokens, quality_n,
                    quality_sum, quality_squares, wait_ms_max, last_decided_at
                FROM sums CROSS JOIN complete
                WHERE yes
                ON CONFLICT (hour, by, key, journal, partition, mode, pool) DO UPDATE SET
                    decisions = old.decisions + excluded.decisions,
                    routed = old.routed + excluded.routed,
                    waiting = old.waiting + excluded.waiting,
                    ended = old.ended + excluded.ended,
                    fallbacks = old.fallbacks + excluded.fallbacks,
                    router_errors = old.router_errors + excluded.router_errors,
                    waits = old.waits + excluded.waits,
                    wait_ms = old.wait_ms + excluded.wait_ms,
                    estimated_usd = old.estimated_usd + excluded.estimated_usd,
                    saved_vs_premium_usd = old.saved_vs_premium_usd + excluded.saved_vs_premium_usd,
                    saved_vs_next_free_usd = old.saved_vs_next_free_usd + excluded.saved_vs_next_free_usd,
                    finished = old.finished + excluded.finished,
                    failed = old.failed + excluded.failed,
                    input_tokens = old.input_tokens + excluded.input_tokens,
                    output_tokens = old.output_tokens + excluded.output_tokens,
                    spent_usd = old.spent_usd + excluded.spent_usd,
                    metered_usd = old.metered_usd + excluded.metered_usd,
                    metered_tokens = old.metered_tokens + excluded.metered_tokens,
                    quality_n = old.quality_n + excluded.quality_n,
                    quality_sum = old.quality_sum + excluded.quality_sum,
                    quality_squares = old.quality_squares + excluded.quality_squares,
                    wait_ms_max = greatest(old.wait_ms_max, excluded.wait_ms_max),
                    last_decided_at = greatest(old.last_decided_at, excluded.last_decided_at)
            ), put_waits AS (
                INSERT INTO stats_waits AS old (hour, by, key, journal, partition, mode, pool, wait_ms, routed)
                SELECT hour, by, key, $1, $2, mode, pool, wait_ms, routed FROM waits CROSS JOIN complete WHERE yes
                ON CONFLICT (hour, by, key, journal, partition, mode, pool, wait_ms)
                DO UPDATE SET routed = old.routed + excluded.routed
            ), put_evs AS (
                INSERT INTO stats_evs AS old (hour, model, journal, partition, mode, pool, ev_from, routed)
                SELECT hour, model, $1, $2, mode, pool, stats_ev_step(ev), count(*)
                FROM rows CROSS JOIN complete
                WHERE yes AND routed = 1 AND ev IS NOT NULL
                GROUP BY hour, model, mode, pool, stats_ev_step(ev)
                ON CONFLICT (hour, model, journal, partition, mode, pool, ev_from)
                DO UPDATE SET routed = old.routed + excluded.routed
            )
            SELECT yes FROM complete
            $roll$,
            began, ended, lookback
        ) INTO whole USING of_journal, of_partition, last_seq, upto_seq;
        EXIT WHEN whole;
    END LOOP;
    UPDATE stats_rolled SET seq = upto_seq WHERE journal = of_journal AND partition = of_partition;
    RETURN steps;
END
$$;
