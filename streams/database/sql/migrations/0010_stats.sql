-- The audit's numbers by the hour: decisions, waits, money, tokens and quality, by role, lane, tenant, layer, provider,
-- model and tier, and by some pairs of them. Views over the rows themselves took 6 to 18 s at 10^6 decisions (docs/bench.md);
-- these tables have at most some thousand rows an hour. `audit_roll_up` fills them from the steps of the journal in order,
-- each step once; the sink calls it in the transaction that writes the steps, `db migrate` for the steps before.
-- Everything new may be absent: a sink of the version before goes on writing, and its steps are taken in later.

ALTER TABLE model_routing_decisions
    ADD COLUMN chosen_provider text,
    ADD COLUMN chosen_account  text,
    ADD COLUMN waiting_since   timestamptz;

COMMENT ON COLUMN model_routing_decisions.chosen_provider IS 'Of the chosen model; absent in rows of an older slotwise';
COMMENT ON COLUMN model_routing_decisions.chosen_account IS 'Of the chosen slot; absent in rows of an older slotwise';
COMMENT ON COLUMN model_routing_decisions.waiting_since IS
    'Accepted time of this attempt, from which its wait is counted; absent in rows of an older slotwise';

CREATE OR REPLACE VIEW v_model_routing_decisions AS SELECT * FROM model_routing_decisions;

-- How far each partition is rolled up. Its row is locked while steps are taken in, so that no step is taken in twice.
CREATE TABLE stats_rolled (
    journal   text    NOT NULL,
    partition integer NOT NULL,
    seq       bigint  NOT NULL,
    PRIMARY KEY (journal, partition)
);

-- Partition is part of the keys: a row is written by one sink at a time, and two sinks never wait for each other.
CREATE TABLE stats_hours (
    hour                    timestamptz NOT NULL,
    by                      text        NOT NULL,
    key                     text[]      NOT NULL,
    journal                 text        NOT NULL,
    partition               integer     NOT NULL,
    mode                    text        NOT NULL,
    pool                    text        NOT NULL,
    decisions               bigint      NOT NULL,
    routed                  bigint      NOT NULL,
    waiting                 bigint      NOT NULL,
    ended                   bigint      NOT NULL,
    fallbacks               bigint      NOT NULL,
    router_errors           bigint      NOT NULL,
    waits                   bigint      NOT NULL,
    wait_ms                 bigint      NOT NULL,
    estimated_usd           numeric     NOT NULL,
    saved_vs_premium_usd    numeric     NOT NULL,
    saved_vs_next_free_usd  numeric     NOT NULL,
    finished                bigint      NOT NULL,
    failed                  bigint      NOT NULL,
    input_tokens            bigint      NOT NULL,
    output_tokens           bigint      NOT NULL,
    spent_usd               numeric     NOT NULL,
    metered_usd             numeric     NOT NULL,
    metered_tokens          bigint      NOT NULL,
    quality_n               bigint      NOT NULL,
    quality_sum             numeric     NOT NULL,
    quality_squares         numeric     NOT NULL,
    wait_ms_max             bigint      NOT NULL,
    last_decided_at         timestamptz,
    PRIMARY KEY (hour, by, key, journal, partition, mode, pool)
) WITH (fillfactor = 70);

COMMENT ON TABLE stats_hours IS 'Sums by the hour of the decision (UTC), of one role, lane, ... (by, key) each';
COMMENT ON COLUMN stats_hours.waits IS 'Routed attempts whose wait is known; wait_ms is its sum';
COMMENT ON COLUMN stats_hours.spent_usd IS 'Cost of finished work, in the hour of its decision';
COMMENT ON COLUMN stats_hours.metered_usd IS 'Cost of the finished work whose tokens and cost are known';

CREATE TABLE stats_waits (
    hour      timestamptz NOT NULL,
    by        text        NOT NULL,
    key       text[]      NOT NULL,
    journal   text        NOT NULL,
    partition integer     NOT NULL,
    mode      text        NOT NULL,
    pool      text        NOT NULL,
    wait_ms   bigint      NOT NULL,
    routed    bigint      NOT NULL,
    PRIMARY KEY (hour, by, key, journal, partition, mode, pool, wait_ms)
) WITH (fillfactor = 70);

COMMENT ON TABLE stats_waits IS 'Routed attempts by their wait, rounded up to a step: at most a tenth more';

CREATE TABLE stats_evs (
    hour      timestamptz      NOT NULL,
    model     text             NOT NULL,
    journal   text             NOT NULL,
    partition integer          NOT NULL,
    mode      text             NOT NULL,
    pool      text             NOT NULL,
    ev_from   double precision NOT NULL,
    routed    bigint           NOT NULL,
    PRIMARY KEY (hour, model, journal, partition, mode, pool, ev_from)
) WITH (fillfactor = 70);

COMMENT ON TABLE stats_evs IS 'Routed tasks by EV, rounded down to a step of 1, 2, 5, 10, ..., and model';

-- The planner puts these four in place and computes the lists once: keep each a single expression.
CREATE FUNCTION stats_wait_steps() RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    -- Each step is a tenth more than the one before, rounded up; the last is 42 days.
    SELECT ARRAY[
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 21, 24, 27, 30, 33, 37, 41, 46, 51, 57, 63, 70, 77,
        85, 94, 104, 115, 127, 140, 154, 170, 187, 206, 227, 250, 275, 303, 334, 368, 405, 446, 491, 541, 596, 656,
        722, 795, 875, 963, 1060, 1166, 1283, 1412, 1554, 1710, 1881, 2070, 2277, 2505, 2756, 3032, 3336, 3670,
        4037, 4441, 4886, 5375, 5913, 6505, 7156, 7872, 8660, 9526, 10479, 11527, 12680, 13948, 15343, 16878, 18566,
        20423, 22466, 24713, 27185, 29904, 32895, 36185, 39804, 43785, 48164, 52981, 58280, 64108, 70519, 77571,
        85329, 93862, 103249, 113574, 124932, 137426, 151169, 166286, 182915, 201207, 221328, 243461, 267808,
        294589, 324048, 356453, 392099, 431309, 474440, 521884, 574073, 631481, 694630, 764093, 840503, 924554,
        1017010, 1118711, 1230583, 1353642, 1489007, 1637908, 1801699, 1981869, 2180056, 2398062, 2637869, 2901656,
        3191822, 3511005, 3862106, 4248317, 4673149, 5140464, 5654511, 6219963, 6841960, 7526156, 8278772, 9106650,
        10017315, 11019047, 12120952, 13333048, 14666353, 16132989, 17746288, 19520917, 21473009, 23620310,
        25982341, 28580576, 31438634, 34582498, 38040748, 41844823, 46029306, 50632237, 55695461, 61265008,
        67391509, 74130660, 81543726, 89698099, 98667909, 108534700, 119388170, 131326987, 144459686, 158905655,
        174796221, 192275844, 211503429, 232653772, 255919150, 281511065, 309662172, 340628390, 374691229,
        412160352, 453376388, 498714027, 548585430, 603443973, 663788371, 730167209, 803183930, 883502323,
        971852556, 1069037812, 1175941594, 1293535754, 1422889330, 1565178263, 1721696090, 1893865699, 2083252269,
        2291577496, 2520735246, 2772808771, 3050089649, 3355098614, 3690608476
    ]::bigint[]
$$;

CREATE FUNCTION stats_wait_step(wait_ms bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT (stats_wait_steps())[least(width_bucket(wait_ms - 1, stats_wait_steps()) + 1, 214)]
$$;

CREATE FUNCTION stats_ev_steps() RETURNS double precision[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT ARRAY[
        -5000000000, -2000000000, -1000000000, -500000000, -200000000, -100000000, -50000000, -20000000, -10000000,
        -5000000, -2000000, -1000000, -500000, -200000, -100000, -50000, -20000, -10000, -5000, -2000, -1000, -500,
        -200, -100, -50, -20, -10, -5, -2, -1, -0.5, -0.2, -0.1, -0.05, -0.02, -0.01, -0.005, -0.002, -0.001, 0,
        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000,
        10000, 20000, 50000, 100000, 200000, 500000, 1000000, 2000000, 5000000, 10000000, 20000000, 50000000,
        100000000, 200000000, 500000000, 1000000000, 2000000000, 5000000000
    ]::double precision[]
$$;

CREATE FUNCTION stats_ev_step(ev double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT coalesce((stats_ev_steps())[width_bucket(ev, stats_ev_steps())], '-infinity')
$$;

-- SECURITY DEFINER: the sink may read no table. All it can do here is to have its own steps taken in.
CREATE FUNCTION audit_roll_up(
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
                    date_trunc('hour', decided_at, 'UTC') AS hour, mode, pool, agent_role AS role, lane,
                    tenant_id AS tenant, layer, chosen_provider AS provider, chosen_model AS model, tier, complexity,
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
                    date_trunc('hour', coalesce(decided_at, settled_at), 'UTC'), mode, pool, agent_role, lane,
                    tenant_id, layer, chosen_provider, coalesce(chosen_model, model), tier, complexity, true,
                    NULL, NULL,
                    0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL,
                    1, (status <> 'success')::integer, input_tokens, output_tokens,
                    actual_cost_usd, quality
                FROM work
            ), sums AS (
                SELECT
                    hour, by, key, mode, pool,
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
                FROM rows CROSS JOIN LATERAL (
                    VALUES
                        ('all', ARRAY[]::text[], true),
                        ('role', ARRAY[coalesce(role, '(none)')], true),
                        ('lane', ARRAY[coalesce(lane, '(none)')], true),
                        ('tenant', ARRAY[coalesce(tenant, '(none)')], true),
                        ('layer', ARRAY[coalesce(layer, '(none)')], true),
                        ('provider', ARRAY[coalesce(provider, '(none)')], with_model),
                        ('model', ARRAY[coalesce(model, '(none)')], with_model),
                        ('tier', ARRAY[coalesce(tier::text, '(none)')], with_model),
                        ('model, layer', ARRAY[coalesce(model, '(none)'), coalesce(layer, '(none)')], with_model),
                        (
                            'role, complexity, model',
                            ARRAY[coalesce(role, '(none)'), coalesce(complexity, '(none)'), coalesce(model, '(none)')],
                            with_model
                        )
                ) AS of (by, key, counts)
                WHERE counts
                GROUP BY hour, by, key, mode, pool
            ), waits AS (
                SELECT hour, by, key, mode, pool, wait_ms, count(*) AS routed
                FROM (
                    SELECT
                        hour, mode, pool, role, lane, tenant, layer, provider, model, tier,
                        stats_wait_step(wait_ms) AS wait_ms
                    FROM rows
                    WHERE wait_ms IS NOT NULL
                ) AS waited CROSS JOIN LATERAL (
                    VALUES
                        ('all', ARRAY[]::text[]),
                        ('role', ARRAY[coalesce(role, '(none)')]),
                        ('lane', ARRAY[coalesce(lane, '(none)')]),
                        ('tenant', ARRAY[coalesce(tenant, '(none)')]),
                        ('layer', ARRAY[coalesce(layer, '(none)')]),
                        ('provider', ARRAY[coalesce(provider, '(none)')]),
                        ('model', ARRAY[coalesce(model, '(none)')]),
                        ('tier', ARRAY[coalesce(tier::text, '(none)')])
                ) AS of (by, key)
                GROUP BY hour, by, key, mode, pool, wait_ms
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
                SELECT hour, coalesce(model, '(none)'), $1, $2, mode, pool, stats_ev_step(ev), count(*)
                FROM rows CROSS JOIN complete
                WHERE yes AND routed = 1 AND ev IS NOT NULL
                GROUP BY hour, coalesce(model, '(none)'), mode, pool, stats_ev_step(ev)
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

COMMENT ON FUNCTION audit_roll_up IS
    'Take the next steps of a partition into the hourly sums, about so many rows; says how many steps they were';

-- From one partition to the next through the primary key, however many steps there are.
CREATE FUNCTION audit_rolled() RETURNS TABLE (journal text, partition integer, rolled_seq bigint, last_seq bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH RECURSIVE places AS (
        (SELECT s.journal, s.partition FROM journal_steps AS s ORDER BY s.journal, s.partition LIMIT 1)
        UNION ALL
        SELECT next.journal, next.partition
        FROM places CROSS JOIN LATERAL (
            SELECT s.journal, s.partition FROM journal_steps AS s
            WHERE (s.journal, s.partition) > (places.journal, places.partition)
            ORDER BY s.journal, s.partition LIMIT 1
        ) AS next
    )
    SELECT places.journal, places.partition, coalesce(rolled.seq, -1), last.seq
    FROM places
    CROSS JOIN LATERAL (
        SELECT s.seq FROM journal_steps AS s
        WHERE s.journal = places.journal AND s.partition = places.partition
        ORDER BY s.seq DESC LIMIT 1
    ) AS last
    LEFT JOIN stats_rolled AS rolled ON rolled.journal = places.journal AND rolled.partition = places.partition
$$;

COMMENT ON FUNCTION audit_rolled IS 'How far the hourly sums are, a line a partition';

CREATE FUNCTION audit_drop_stats_before(day date) RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH hours AS (DELETE FROM stats_hours WHERE hour < day::timestamp AT TIME ZONE 'UTC' RETURNING 1),
        waits AS (DELETE FROM stats_waits WHERE hour < day::timestamp AT TIME ZONE 'UTC' RETURNING 1),
        evs AS (DELETE FROM stats_evs WHERE hour < day::timestamp AT TIME ZONE 'UTC' RETURNING 1)
    SELECT (SELECT count(*) FROM hours) + (SELECT count(*) FROM waits) + (SELECT count(*) FROM evs)
$$;

COMMENT ON FUNCTION audit_drop_stats_before IS 'Remove the hourly sums of the days before one';

REVOKE EXECUTE ON FUNCTION
    audit_roll_up(text, integer, bigint, bigint, timestamptz), audit_rolled(), audit_drop_stats_before(date),
    stats_wait_steps(), stats_wait_step(bigint), stats_ev_steps(), stats_ev_step(double precision)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_roll_up(text, integer, bigint, bigint, timestamptz) TO slotwise_write;
