-- Merged sums: those of an hour, or of a day, over all pools and partitions, in one row a key, with the
-- counts of all steps of its waits. What is asked of all pools is read from them: a small part of the rows. A merge is a
-- copy. It is used while it holds as much as the hourly sums of its time do, which only grow: work that ends late makes a
-- merge stale, and the hourly sums are read until it is made again. So a merge is never waited for, and never wrong.

-- By what is asked first, then by hour: a page reads one such range.
ALTER TABLE stats_hours
    DROP CONSTRAINT stats_hours_pkey,
    ADD PRIMARY KEY (by, hour, pool, key, journal, partition, mode);
ALTER TABLE stats_waits
    DROP CONSTRAINT stats_waits_pkey,
    ADD PRIMARY KEY (by, hour, pool, key, journal, partition, mode, wait_ms);

CREATE TABLE stats_merges (
    journal   text        NOT NULL,
    span      text        NOT NULL,
    start     timestamptz NOT NULL,
    counted   bigint      NOT NULL,
    merged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (journal, span, start)
);

COMMENT ON TABLE stats_merges IS 'Which hours and days (span) of a journal are in stats_merged';
COMMENT ON COLUMN stats_merges.counted IS 'Decisions and finished work that it holds; it is stale if the sums have more';

CREATE TABLE stats_merged (
    by                      text        NOT NULL,
    span                    text        NOT NULL,
    start                   timestamptz NOT NULL,
    journal                 text        NOT NULL,
    mode                    text        NOT NULL,
    key                     text[]      NOT NULL,
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
    wait_steps              bigint[],
    wait_counts             bigint[],
    PRIMARY KEY (by, span, start, journal, mode, key)
);

COMMENT ON TABLE stats_merged IS 'Sums of an hour or a day over all pools and partitions: copies, if fresh by stats_merges';
COMMENT ON COLUMN stats_merged.wait_counts IS 'Routed attempts of each of wait_steps (ms); null: none has a known wait';

CREATE FUNCTION stats_kinds() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT ARRAY[
        'all', 'role', 'lane', 'tenant', 'layer', 'provider', 'model', 'tier', 'model, layer', 'role, complexity, model'
    ]
$$;

-- Which spans to read since a time: the merges that hold, the longest first, and of the rest the hours.
CREATE FUNCTION stats_spans(since timestamptz, of_pool text)
RETURNS TABLE (journal text, span text, start timestamptz)
LANGUAGE sql STABLE
ROWS 60
AS $$
    WITH hours AS MATERIALIZED (
        SELECT journal, hour, sum(decisions + finished) AS counted
        FROM stats_hours
        WHERE by = 'all' AND hour >= date_trunc('hour', since, 'UTC')
        GROUP BY journal, hour
    ), days AS (
        SELECT journal, date_trunc('day', hour, 'UTC') AS day, sum(counted) AS counted
        FROM hours
        GROUP BY journal, date_trunc('day', hour, 'UTC')
    ), by_day AS MATERIALIZED (
        SELECT merge.journal, merge.start
        FROM days JOIN stats_merges AS merge
            ON merge.journal = days.journal AND merge.span = 'day' AND merge.start = days.day
        WHERE of_pool IS NULL AND days.day >= date_trunc('hour', since, 'UTC') AND merge.counted = days.counted
    )
    SELECT journal, 'day', start FROM by_day
    UNION ALL
    SELECT
        hours.journal, CASE WHEN of_pool IS NULL AND merge.counted = hours.counted THEN 'hour' ELSE 'sums' END,
        hours.hour
    FROM hours
    LEFT JOIN stats_merges AS merge
        ON merge.journal = hours.journal AND merge.span = 'hour' AND merge.start = hours.hour
    WHERE NOT EXISTS (
        SELECT FROM by_day
        WHERE by_day.journal = hours.journal AND by_day.start = date_trunc('day', hours.hour, 'UTC')
    )
$$;

CREATE OR REPLACE FUNCTION stats_since(since timestamptz, of_pool text DEFAULT NULL, of_by text[] DEFAULT NULL)
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
SET work_mem = '32MB'
SET jit = off
-- Each span is a range of the index, and counts are grouped by hashes, whatever the statistics of growing tables say.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
AS $$
    -- OFFSET 0 keeps each span a look of its own.
    WITH spans AS MATERIALIZED (
        SELECT * FROM stats_spans(since, of_pool)
    ), merged AS MATERIALIZED (
        SELECT one.*
        FROM spans CROSS JOIN LATERAL (
            SELECT * FROM stats_merged AS merge
            WHERE merge.by = ANY(coalesce(of_by, stats_kinds())) AND merge.span = spans.span AND merge.start = spans.start
                AND merge.journal = spans.journal
            OFFSET 0
        ) AS one
        WHERE spans.span <> 'sums'
    ), parts AS (
        SELECT
            journal, mode, by, key, decisions, routed, waiting, ended, fallbacks, router_errors, waits, wait_ms,
            wait_ms_max, finished, failed, input_tokens, output_tokens, estimated_usd, spent_usd, metered_usd,
            metered_tokens, saved_vs_premium_usd, saved_vs_next_free_usd, quality_n, quality_sum, quality_squares
        FROM merged
        UNION ALL
        SELECT one.*
        FROM spans CROSS JOIN LATERAL (
            SELECT
                journal, mode, by, key, decisions, routed, waiting, ended, fallbacks, router_errors, waits, wait_ms,
                wait_ms_max, finished, failed, input_tokens, output_tokens, estimated_usd, spent_usd, metered_usd,
                metered_tokens, saved_vs_premium_usd, saved_vs_next_free_usd, quality_n, quality_sum, quality_squares
            FROM stats_hours AS h
            WHERE h.by = ANY(coalesce(of_by, stats_kinds())) AND h.hour = spans.start AND h.journal = spans.journal
                AND (of_pool IS NULL OR h.pool = of_pool)
            OFFSET 0
        ) AS one
        WHERE spans.span = 'sums'
    ), sums AS MATERIALIZED (
        SELECT
            row_number() OVER () AS number,
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
        FROM parts
        GROUP BY journal, mode, by, key
    ), waited AS (
        -- A number in place of the four columns of a key: there are some hundred thousand counts.
        SELECT counts.number, step.wait_ms, step.routed
        FROM (
            SELECT sums.number, merged.wait_steps, merged.wait_counts
            FROM merged JOIN sums USING (journal, mode, by, key)
            WHERE merged.wait_steps IS NOT NULL
        ) AS counts CROSS JOIN LATERAL unnest(counts.wait_steps, counts.wait_counts) AS step (wait_ms, routed)
        UNION ALL
        SELECT sums.number, one.wait_ms, one.routed
        FROM (
            SELECT one.*
            FROM spans CROSS JOIN LATERAL (
                SELECT journal, mode, by, key, wait_ms, routed FROM stats_waits AS w
                WHERE w.by = ANY(coalesce(of_by, stats_kinds())) AND w.hour = spans.start AND w.journal = spans.journal
                    AND (of_pool IS NULL OR w.pool = of_pool)
                OFFSET 0
            ) AS one
            WHERE spans.span = 'sums'
        ) AS one JOIN sums USING (journal, mode, by, key)
    ), waits AS (
        SELECT
            number, wait_ms,
            sum(sum(routed)) OVER (PARTITION BY number ORDER BY wait_ms) AS upto,
            sum(sum(routed)) OVER (PARTITION BY number) AS total
        FROM waited
        GROUP BY number, wait_ms
    ), ranks AS (
        SELECT
            number,
            min(wait_ms) FILTER (WHERE upto >= 0.50 * total) AS p50,
            min(wait_ms) FILTER (WHERE upto >= 0.95 * total) AS p95
        FROM waits
        GROUP BY number
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
    FROM spread LEFT JOIN ranks USING (number)
$$;

CREATE OR REPLACE FUNCTION stats_quality_since(since timestamptz, of_pool text DEFAULT NULL)
RETURNS TABLE (
    journal text, mode text, model text, complexity text, n bigint, mean numeric, low numeric, high numeric,
    finished bigint, failed bigint
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET work_mem = '32MB'
SET jit = off
-- Each span is a range of the index, and counts are grouped by hashes, whatever the statistics of growing tables say.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
AS $$
    WITH spans AS MATERIALIZED (
        SELECT * FROM stats_spans(since, of_pool)
    ), parts AS (
        SELECT one.*
        FROM spans CROSS JOIN LATERAL (
            SELECT journal, mode, key, quality_n, quality_sum, quality_squares, finished, failed
            FROM stats_merged AS merge
            WHERE merge.by = 'role, complexity, model' AND merge.span = spans.span AND merge.start = spans.start
                AND merge.journal = spans.journal
            OFFSET 0
        ) AS one
        WHERE spans.span <> 'sums'
        UNION ALL
        SELECT one.*
        FROM spans CROSS JOIN LATERAL (
            SELECT journal, mode, key, quality_n, quality_sum, quality_squares, finished, failed
            FROM stats_hours AS h
            WHERE h.by = 'role, complexity, model' AND h.hour = spans.start AND h.journal = spans.journal
                AND (of_pool IS NULL OR h.pool = of_pool)
            OFFSET 0
        ) AS one
        WHERE spans.span = 'sums'
    )
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
            FROM parts
            GROUP BY journal, mode, key[3], key[2]
        ) AS sums
    ) AS spread
    WHERE finished > 0
$$;

-- SECURITY DEFINER: the sink may read and change no table. All it can do here is to have copies made.
CREATE FUNCTION audit_merge(of_journal text, spans_max integer, back interval, again_after interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET work_mem = '64MB'
SET jit = off
AS $$
DECLARE
    newest timestamptz;
    one    timestamptz;
    made   bigint := 0;
BEGIN
    -- One at a time; who comes second has nothing to do.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('slotwise stats merges', 0)) THEN
        RETURN 0;
    END IF;
    SELECT h.hour INTO newest FROM stats_hours AS h
    WHERE h.by = 'all' AND h.journal = of_journal ORDER BY h.hour DESC LIMIT 1;
    -- Hours that are over: what has none, the newest first; then what is stale, the oldest copy first.
    FOR one IN
        SELECT hours.hour
        FROM (
            SELECT h.hour, sum(h.decisions + h.finished) AS counted
            FROM stats_hours AS h
            WHERE h.by = 'all' AND h.journal = of_journal AND h.hour >= newest - back AND h.hour < newest
            GROUP BY h.hour
        ) AS hours
        LEFT JOIN stats_merges AS merge
            ON merge.journal = of_journal AND merge.span = 'hour' AND merge.start = hours.hour
        WHERE merge.counted IS NULL
            OR (merge.counted <> hours.counted AND merge.merged_at <= clock_timestamp() - again_after)
        ORDER BY merge.merged_at NULLS FIRST, hours.hour DESC
        LIMIT spans_max
    LOOP
        DELETE FROM stats_merged
        WHERE by = ANY(stats_kinds()) AND span = 'hour' AND start = one AND journal = of_journal;
        -- One statement, so that the copy and its count are of one moment.
        WITH sums AS MATERIALIZED (
            SELECT
                h.by, h.mode, h.key,
                sum(h.decisions) AS decisions, sum(h.routed) AS routed, sum(h.waiting) AS waiting,
                sum(h.ended) AS ended, sum(h.fallbacks) AS fallbacks, sum(h.router_errors) AS router_errors, sum(h.waits) AS waits,
                sum(h.wait_ms) AS wait_ms, sum(h.estimated_usd) AS estimated_usd,
                sum(h.saved_vs_premium_usd) AS saved_vs_premium_usd,
                sum(h.saved_vs_next_free_usd) AS saved_vs_next_free_usd, sum(h.finished) AS finished,
                sum(h.failed) AS failed, sum(h.input_tokens) AS input_tokens, sum(h.output_tokens) AS output_tokens,
                sum(h.spent_usd) AS spent_usd, sum(h.metered_usd) AS metered_usd,
                sum(h.metered_tokens) AS metered_tokens, sum(h.quality_n) AS quality_n, sum(h.quality_sum) AS quality_sum,
                sum(h.quality_squares) AS quality_squares, max(h.wait_ms_max) AS wait_ms_max
            FROM stats_hours AS h
            WHERE h.by = ANY(stats_kinds()) AND h.hour = one AND h.journal = of_journal
            GROUP BY h.by, h.mode, h.key
        ), waits AS (
            SELECT
                by, mode, key,
                array_agg(wait_ms ORDER BY wait_ms) AS steps, array_agg(routed ORDER BY wait_ms) AS counts
            FROM (
                SELECT w.by, w.mode, w.key, w.wait_ms, sum(w.routed)::bigint AS routed
                FROM stats_waits AS w
                WHERE w.by = ANY(stats_kinds()) AND w.hour = one AND w.journal = of_journal
                GROUP BY w.by, w.mode, w.key, w.wait_ms
            ) AS steps
            GROUP BY by, mode, key
        ), put AS (
            INSERT INTO stats_merged (
                by, span, start, journal, mode, key, decisions, routed, waiting, ended, fallbacks, router_errors, waits,
                wait_ms, estimated_usd, saved_vs_premium_usd, saved_vs_next_free_usd, finished, failed, input_tokens,
                output_tokens, spent_usd, metered_usd, metered_tokens, quality_n, quality_sum, quality_squares,
                wait_ms_max, wait_steps, wait_counts
            )
            SELECT
                by, 'hour', one, of_journal, mode, key, decisions, routed, waiting, ended, fallbacks, router_errors,
                sums.waits, wait_ms, estimated_usd, saved_vs_premium_usd, saved_vs_next_free_usd, finished, failed,
                input_tokens, output_tokens, spent_usd, metered_usd, metered_tokens, quality_n, quality_sum,
                quality_squares, wait_ms_max, steps, counts
            FROM sums LEFT JOIN waits USING (by, mode, key)
        )
        INSERT INTO stats_merges AS merge (journal, span, start, counted)
        SELECT of_journal, 'hour', one, sum(decisions + finished) FROM sums WHERE by = 'all'
        ON CONFLICT (journal, span, start) DO UPDATE SET counted = excluded.counted, merged_at = clock_timestamp();
        made := made + 1;
    END LOOP;
    -- Days that are over, and whose hours are all there.
    FOR one IN
        WITH hours AS MATERIALIZED (
            SELECT h.hour, sum(h.decisions + h.finished) AS counted
            FROM stats_hours AS h
            WHERE h.by = 'all' AND h.journal = of_journal AND h.hour >= date_trunc('day', newest - back, 'UTC')
                AND h.hour < date_trunc('day', newest, 'UTC')
            GROUP BY h.hour
        )
        SELECT date_trunc('day', hours.hour, 'UTC')
        FROM hours
        LEFT JOIN stats_merges AS merge
            ON merge.journal = of_journal AND merge.span = 'hour' AND merge.start = hours.hour
        LEFT JOIN stats_merges AS day
            ON day.journal = of_journal AND day.span = 'day' AND day.start = date_trunc('day', hours.hour, 'UTC')
        GROUP BY date_trunc('day', hours.hour, 'UTC')
        HAVING bool_and(merge.counted IS NOT DISTINCT FROM hours.counted)
            AND sum(hours.counted) IS DISTINCT FROM max(day.counted)
            AND coalesce(max(day.merged_at) <= clock_timestamp() - again_after, true)
        ORDER BY 1 DESC
        LIMIT greatest(spans_max - made, 0)
    LOOP
        DELETE FROM stats_merged
        WHERE by = ANY(stats_kinds()) AND span = 'day' AND start = one AND journal = of_journal;
        WITH hours AS MATERIALIZED (
            SELECT f.*
            FROM stats_merged AS f
            WHERE f.by = ANY(stats_kinds()) AND f.span = 'hour' AND f.start >= one AND f.start < one + interval '1 day'
                AND f.journal = of_journal
        ), sums AS MATERIALIZED (
            SELECT
                h.by, h.mode, h.key,
                sum(h.decisions) AS decisions, sum(h.routed) AS routed, sum(h.waiting) AS waiting,
                sum(h.ended) AS ended, sum(h.fallbacks) AS fallbacks, sum(h.router_errors) AS router_errors, sum(h.waits) AS waits,
                sum(h.wait_ms) AS wait_ms, sum(h.estimated_usd) AS estimated_usd,
                sum(h.saved_vs_premium_usd) AS saved_vs_premium_usd,
                sum(h.saved_vs_next_free_usd) AS saved_vs_next_free_usd, sum(h.finished) AS finished,
                sum(h.failed) AS failed, sum(h.input_tokens) AS input_tokens, sum(h.output_tokens) AS output_tokens,
                sum(h.spent_usd) AS spent_usd, sum(h.metered_usd) AS metered_usd,
                sum(h.metered_tokens) AS metered_tokens, sum(h.quality_n) AS quality_n, sum(h.quality_sum) AS quality_sum,
                sum(h.quality_squares) AS quality_squares, max(h.wait_ms_max) AS wait_ms_max
            FROM hours AS h
            GROUP BY h.by, h.mode, h.key
        ), waits AS (
            SELECT
                by, mode, key,
                array_agg(wait_ms ORDER BY wait_ms) AS steps, array_agg(routed ORDER BY wait_ms) AS counts
            FROM (
                SELECT h.by, h.mode, h.key, step.wait_ms, sum(step.routed)::bigint AS routed
                FROM hours AS h CROSS JOIN LATERAL unnest(h.wait_steps, h.wait_counts) AS step (wait_ms, routed)
                GROUP BY h.by, h.mode, h.key, step.wait_ms
            ) AS steps
            GROUP BY by, mode, key
        ), put AS (
            INSERT INTO stats_merged (
                by, span, start, journal, mode, key, decisions, routed, waiting, ended, fallbacks, router_errors, waits,
                wait_ms, estimated_usd, saved_vs_premium_usd, saved_vs_next_free_usd, finished, failed, input_tokens,
                output_tokens, spent_usd, metered_usd, metered_tokens, quality_n, quality_sum, quality_squares,
                wait_ms_max, wait_steps, wait_counts
            )
            SELECT
                by, 'day', one, of_journal, mode, key, decisions, routed, waiting, ended, fallbacks, router_errors,
                sums.waits, wait_ms, estimated_usd, saved_vs_premium_usd, saved_vs_next_free_usd, finished, failed,
                input_tokens, output_tokens, spent_usd, metered_usd, metered_tokens, quality_n, quality_sum,
                quality_squares, wait_ms_max, steps, counts
            FROM sums LEFT JOIN waits USING (by, mode, key)
        )
        INSERT INTO stats_merges AS merge (journal, span, start, counted)
        SELECT of_journal, 'day', one, sum(decisions + finished) FROM hours WHERE by = 'all'
        ON CONFLICT (journal, span, start) DO UPDATE SET counted = excluded.counted, merged_at = clock_timestamp();
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

COMMENT ON FUNCTION audit_merge IS 'Make the merges of hours and days that are missing or stale, some at a time; says how many it made';

CREATE OR REPLACE FUNCTION audit_drop_stats_before(day date) RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH hours AS (DELETE FROM stats_hours WHERE hour < day::timestamp AT TIME ZONE 'UTC' RETURNING 1),
        waits AS (DELETE FROM stats_waits WHERE hour < day::timestamp AT TIME ZONE 'UTC' RETURNING 1),
        evs AS (DELETE FROM stats_evs WHERE hour < day::timestamp AT TIME ZONE 'UTC' RETURNING 1),
        merges AS (DELETE FROM stats_merges WHERE start < day::timestamp AT TIME ZONE 'UTC' RETURNING 1),
        merged AS (DELETE FROM stats_merged WHERE start < day::timestamp AT TIME ZONE 'UTC' RETURNING 1)
    SELECT (SELECT count(*) FROM hours) + (SELECT count(*) FROM waits) + (SELECT count(*) FROM evs)
$$;

REVOKE EXECUTE ON FUNCTION
    audit_merge(text, integer, interval, interval), stats_spans(timestamptz, text), stats_kinds()
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_merge(text, integer, interval, interval) TO slotwise_write;
