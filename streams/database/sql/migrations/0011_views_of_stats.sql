-- What people read of the hourly sums. The functions take the time from which on they count, as an hour that has begun;
-- the views are the last 24 h of them.

-- How many standard errors a confidence interval of 95 % reaches to each side of a mean (Student's t, two-sided).
CREATE FUNCTION stats_t95(freedom bigint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN freedom < 1 THEN NULL
        WHEN freedom <= 30 THEN (ARRAY[
        12.7062, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.30600, 2.26216, 2.22814, 2.20099, 2.17881,
        2.16037, 2.14479, 2.13145, 2.11991, 2.10982, 2.10092, 2.09302, 2.08596, 2.07961, 2.07387, 2.06866, 2.06390,
        2.05954, 2.05553, 2.05183, 2.04841, 2.04523, 2.04227
        ]::numeric[])[freedom]
        -- Beyond 30, the first terms of its series around the normal quantile are exact to five digits.
        ELSE 1.959964 + 2.372271 / freedom + 2.822500 / freedom ^ 2 + 2.555850 / freedom ^ 3
    END
$$;

CREATE FUNCTION stats_since(since timestamptz, of_pool text DEFAULT NULL, of_by text[] DEFAULT NULL)
RETURNS TABLE (
    journal text, mode text, by text, key text[],
    decisions bigint, routed bigint, waiting bigint, ended bigint,
    fallbacks bigint, fallback_share numeric, router_errors bigint, router_error_share numeric,
    wait_p50_s numeric, wait_p95_s numeric, wait_max_s numeric, wait_mean_s numeric,
    finished bigint, failed bigint, failed_share numeric,
    input_tokens bigint, output_tokens bigint,
    estimated_usd numeric, spent_usd numeric, usd_per_task numeric, usd_per_million_tokens numeric,
    saved_vs_premium_usd numeric, saved_vs_next_free_usd numeric,
    quality_n bigint, quality_mean numeric, quality_low numeric, quality_high numeric
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH sums AS (
        SELECT
            journal, mode, by, key,
            sum(decisions)::bigint AS decisions, sum(routed)::bigint AS routed, sum(waiting)::bigint AS waiting,
            sum(ended)::bigint AS ended, sum(fallbacks)::bigint AS fallbacks,
            sum(router_errors)::bigint AS router_errors,
            sum(waits) AS waits, sum(wait_ms) AS wait_ms, max(wait_ms_max) AS wait_ms_max,
            sum(finished)::bigint AS finished, sum(failed)::bigint AS failed,
            sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
            sum(estimated_usd) AS estimated_usd, sum(spent_usd) AS spent_usd,
            sum(metered_usd) AS metered_usd, sum(metered_tokens) AS metered_tokens,
            sum(saved_vs_premium_usd) AS saved_vs_premium_usd, sum(saved_vs_next_free_usd) AS saved_vs_next_free_usd,
            sum(quality_n)::bigint AS quality_n, sum(quality_sum) AS quality_sum,
            sum(quality_squares) AS quality_squares
        FROM stats_hours
        WHERE hour >= date_trunc('hour', since, 'UTC') AND (of_pool IS NULL OR pool = of_pool)
            AND (of_by IS NULL OR by = ANY(of_by))
        GROUP BY journal, mode, by, key
    ), waits AS (
        SELECT
            journal, mode, by, key, wait_ms,
            sum(sum(routed)) OVER (PARTITION BY journal, mode, by, key ORDER BY wait_ms) AS upto,
            sum(sum(routed)) OVER (PARTITION BY journal, mode, by, key) AS total
        FROM stats_waits
        WHERE hour >= date_trunc('hour', since, 'UTC') AND (of_pool IS NULL OR pool = of_pool)
            AND (of_by IS NULL OR by = ANY(of_by))
        GROUP BY journal, mode, by, key, wait_ms
    ), ranks AS (
        SELECT
            journal, mode, by, key,
            min(wait_ms) FILTER (WHERE upto >= 0.50 * total) AS p50,
            min(wait_ms) FILTER (WHERE upto >= 0.95 * total) AS p95
        FROM waits
        GROUP BY journal, mode, by, key
    ), spread AS (
        SELECT
            sums.*,
            quality_sum / nullif(quality_n, 0) AS quality_mean,
            stats_t95(quality_n - 1) * sqrt(
                greatest(0, quality_squares - quality_sum * quality_sum / nullif(quality_n, 0))
                / nullif(quality_n - 1, 0) / nullif(quality_n, 0)
            ) AS quality_half
        FROM sums
    )
    SELECT
        journal, mode, by, key, decisions, routed, waiting, ended,
        fallbacks, round(fallbacks / nullif(routed, 0)::numeric, 4),
        router_errors, round(router_errors / nullif(routed, 0)::numeric, 4),
        round(p50 / 1000.0, 3), round(p95 / 1000.0, 3),
        CASE WHEN waits > 0 THEN round(wait_ms_max / 1000.0, 3) END, round(wait_ms / nullif(waits, 0) / 1000.0, 3),
        finished, failed, round(failed / nullif(finished, 0)::numeric, 4),
        input_tokens, output_tokens,
        estimated_usd, spent_usd, round(spent_usd / nullif(finished, 0), 6),
        round(1000000 * metered_usd / nullif(metered_tokens, 0), 4),
        saved_vs_premium_usd, saved_vs_next_free_usd,
        quality_n, round(quality_mean, 4), round(quality_mean - quality_half, 4), round(quality_mean + quality_half, 4)
    FROM spread LEFT JOIN ranks USING (journal, mode, by, key)
$$;

CREATE FUNCTION stats_quality_since(since timestamptz, of_pool text DEFAULT NULL)
RETURNS TABLE (
    journal text, mode text, model text, complexity text, n bigint, mean numeric, low numeric, high numeric,
    finished bigint, failed bigint
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT
        journal, mode, model, complexity, n, round(sum_of / nullif(n, 0), 4),
        round(sum_of / nullif(n, 0) - half, 4), round(sum_of / nullif(n, 0) + half, 4), finished, failed
    FROM (
        SELECT
            *,
            stats_t95(n - 1) * sqrt(
                greatest(0, squares - sum_of * sum_of / nullif(n, 0)) / nullif(n - 1, 0) / nullif(n, 0)
            ) AS half
        FROM (
            SELECT
                journal, mode, key[3] AS model, key[2] AS complexity,
                sum(quality_n)::bigint AS n, sum(quality_sum) AS sum_of, sum(quality_squares) AS squares,
                sum(finished)::bigint AS finished, sum(failed)::bigint AS failed
            FROM stats_hours
            WHERE by = 'role, complexity, model' AND hour >= date_trunc('hour', since, 'UTC')
                AND (of_pool IS NULL OR pool = of_pool)
            GROUP BY journal, mode, key[3], key[2]
        ) AS sums
    ) AS spread
    WHERE finished > 0
$$;

CREATE FUNCTION stats_tiers_since(since timestamptz, of_pool text DEFAULT NULL)
RETURNS TABLE (journal text, mode text, hour timestamptz, tier text, routed bigint, share numeric, spent_usd numeric)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT
        journal, mode, hour, key[1], sum(routed)::bigint,
        round(sum(routed) / nullif(sum(sum(routed)) OVER (PARTITION BY journal, mode, hour), 0), 4), sum(spent_usd)
    FROM stats_hours
    WHERE by = 'tier' AND hour >= date_trunc('hour', since, 'UTC') AND (of_pool IS NULL OR pool = of_pool)
    GROUP BY journal, mode, hour, key[1]
$$;

CREATE FUNCTION stats_evs_since(since timestamptz, of_pool text DEFAULT NULL)
RETURNS TABLE (journal text, mode text, ev_from double precision, model text, routed bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT journal, mode, ev_from, model, sum(routed)::bigint
    FROM stats_evs
    WHERE hour >= date_trunc('hour', since, 'UTC') AND (of_pool IS NULL OR pool = of_pool)
    GROUP BY journal, mode, ev_from, model
$$;

CREATE VIEW v_stats AS SELECT * FROM stats_since(now() - interval '24 hours');

COMMENT ON VIEW v_stats IS 'The last 24 h by role, lane, tenant, layer, provider, model, tier: waits, rates, money';

CREATE VIEW v_stats_hours AS SELECT * FROM stats_hours;

COMMENT ON VIEW v_stats_hours IS 'The hourly sums behind v_stats, to be added up over any hours';

CREATE VIEW v_routing_matrix AS
SELECT
    journal, mode, key[1] AS model, key[2] AS layer, routed,
    round(routed / nullif(sum(routed) OVER (PARTITION BY journal, mode, key[2]), 0), 4) AS share_of_layer,
    usd_per_task, spent_usd, estimated_usd
FROM stats_since(now() - interval '24 hours', NULL, ARRAY['model, layer']);

COMMENT ON VIEW v_routing_matrix IS 'Models by layers in the last 24 h: tasks routed, share of the layer, $ a task';

CREATE VIEW v_model_use AS
SELECT
    journal, mode, key[1] AS agent_role, key[2] AS complexity, key[3] AS model, routed,
    round(routed / nullif(sum(routed) OVER (PARTITION BY journal, mode, key[1], key[2]), 0), 4) AS share
FROM stats_since(now() - interval '24 hours', NULL, ARRAY['role, complexity, model']);

COMMENT ON VIEW v_model_use IS 'Which models did the work of each role and complexity in the last 24 h';

CREATE VIEW v_quality AS SELECT * FROM stats_quality_since(now() - interval '30 days');

COMMENT ON VIEW v_quality IS
    'Reported quality by model and complexity in the last 30 days: n, mean and its 95 % confidence interval';

CREATE VIEW v_tier_hours AS SELECT * FROM stats_tiers_since(now() - interval '24 hours');

COMMENT ON VIEW v_tier_hours IS 'The tier mix of each of the last 24 hours';

CREATE VIEW v_ev_steps AS SELECT * FROM stats_evs_since(now() - interval '24 hours');

COMMENT ON VIEW v_ev_steps IS
    'Tasks routed in the last 24 h by EV and model; an EV is at or above ev_from, and below the next step';

-- The one definition; `streams/views/lane_state.py` has it for what asks no database, and a test compares them.
CREATE FUNCTION lane_state(decisions bigint, routed bigint, router_errors bigint, fallbacks bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN decisions = 0 THEN 'idle'
        WHEN routed > 0 AND router_errors * 100 >= routed * 5 THEN 'degraded'
        WHEN routed > 0 AND fallbacks * 100 >= routed * 20 THEN 'elevated_fallback'
        ELSE 'healthy'
    END
$$;

-- As before, without reading the rows of a day: which lanes there were is in the sums.
CREATE OR REPLACE VIEW v_lane_health AS
WITH restarts AS (
    SELECT journal, pool, event ->> 'lane' AS lane, max(taken_at) AS at
    FROM fleet_controls_taken
    WHERE kind = 'lane.restarted' AND taken_at >= now() - interval '24 hours'
    GROUP BY journal, pool, event ->> 'lane'
), seen AS (
    SELECT journal, mode, pool, key[1] AS lane, max(last_decided_at) AS last_decided_at
    FROM stats_hours
    WHERE by = 'lane' AND hour >= date_trunc('hour', now() - interval '24 hours', 'UTC')
    GROUP BY journal, mode, pool, key[1]
    HAVING max(last_decided_at) >= now() - interval '24 hours'
), places AS (
    SELECT seen.*, (
        SELECT max(restarts.at) FROM restarts
        WHERE restarts.journal = seen.journal AND restarts.lane = seen.lane
            AND (restarts.pool IS NULL OR restarts.pool = seen.pool)
    ) AS restarted_at
    FROM seen
), recent AS (
    SELECT
        d.journal, d.mode, d.pool, coalesce(d.lane, '(none)') AS lane,
        count(*) AS decisions,
        count(*) FILTER (WHERE d.outcome = 'routed') AS routed,
        count(*) FILTER (WHERE d.outcome = 'routed' AND d.reason_code = 'router_error') AS router_errors,
        count(*) FILTER (WHERE d.outcome = 'routed' AND d.fallback) AS fallbacks
    FROM model_routing_decisions AS d
    LEFT JOIN places
        ON places.journal = d.journal AND places.mode = d.mode AND places.pool = d.pool AND places.lane = d.lane
    WHERE d.decided_at >= now() - interval '1 hour'
        AND (places.restarted_at IS NULL OR d.decided_at >= places.restarted_at)
    GROUP BY d.journal, d.mode, d.pool, coalesce(d.lane, '(none)')
), lanes AS (
    SELECT
        journal, mode, lane,
        coalesce(sum(decisions), 0)::bigint AS decisions, coalesce(sum(routed), 0)::bigint AS routed,
        coalesce(sum(router_errors), 0)::bigint AS router_errors, coalesce(sum(fallbacks), 0)::bigint AS fallbacks,
        max(last_decided_at) AS last_decided_at, max(restarted_at) AS restarted_at
    FROM places LEFT JOIN recent USING (journal, mode, pool, lane)
    GROUP BY journal, mode, lane
)
SELECT
    journal, mode, lane,
    lane_state(decisions, routed, router_errors, fallbacks) AS state,
    decisions, routed, router_errors, round(router_errors / nullif(routed, 0)::numeric, 4) AS router_error_share,
    fallbacks, round(fallbacks / nullif(routed, 0)::numeric, 4) AS fallback_share, last_decided_at, restarted_at
FROM lanes;

CREATE VIEW v_stats_progress AS SELECT *, last_seq - rolled_seq AS seqs_behind FROM audit_rolled();

COMMENT ON VIEW v_stats_progress IS 'How far the hourly sums are, a line a partition; if behind: `slotwise db migrate`';

-- Within a view a function runs with the rights of who asks; each of these reads sums only.
REVOKE EXECUTE ON FUNCTION
    stats_since(timestamptz, text, text[]), stats_quality_since(timestamptz, text),
    stats_tiers_since(timestamptz, text), stats_evs_since(timestamptz, text), stats_t95(bigint),
    lane_state(bigint, bigint, bigint, bigint)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    stats_since(timestamptz, text, text[]), stats_quality_since(timestamptz, text),
    stats_tiers_since(timestamptz, text), stats_evs_since(timestamptz, text), audit_rolled(),
    lane_state(bigint, bigint, bigint, bigint)
TO slotwise_read;
GRANT SELECT ON
    v_stats, v_stats_hours, v_routing_matrix, v_model_use, v_quality, v_tier_hours, v_ev_steps, v_stats_progress
TO slotwise_read;
