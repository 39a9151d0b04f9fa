-- A partition a day, so that old days can be dropped whole. A day without one goes to the DEFAULT partition,
-- which delays nothing and loses nothing; making the day's partition later moves the rows there.

-- When whole days were dropped: before that day, steps may stand here whose decisions do not.
CREATE TABLE audit_dropped (
    before     date        NOT NULL,
    dropped_at timestamptz NOT NULL DEFAULT now()
);

-- SECURITY DEFINER: the sink meets days that nobody prepared (an old trace, a maintenance job that stopped), and may
-- not own tables. All it can do here is to have a day's empty partition made.
CREATE FUNCTION audit_make_partition(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET timezone = 'UTC'
-- Attaching waits for readers of the whole table; who writes must not wait long for who reads.
SET lock_timeout = '2s'
AS $$
DECLARE
    parent   text;
    key      text;
    child    text;
    in_day   text;
    stray    boolean;
    made     boolean := false;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('slotwise audit partitions', 0));
    -- A limit on everything: clocks that jump must not fill the catalogue with empty tables.
    IF (SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.model_routing_decisions'::regclass) > 2000 THEN
        RETURN false;
    END IF;
    FOR parent, key IN
        VALUES ('model_routing_decisions', 'decided_at'), ('model_routing_outcomes', 'settled_at')
    LOOP
        child := parent || to_char(day, '_YYYYMMDD');
        CONTINUE WHEN to_regclass(format('public.%I', child)) IS NOT NULL;
        EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL)', child, parent);
        in_day := format('%I >= %L AND %I < %L', key, day::timestamptz, key, (day + 1)::timestamptz);
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE %s)', parent || '_default', in_day) INTO stray;
        IF stray THEN
            -- Nobody holds the right to delete, the owner included; it is taken for these rows and given back.
            EXECUTE format('GRANT DELETE ON public.%I TO CURRENT_USER', parent || '_default');
            EXECUTE format(
                'WITH stray AS (DELETE FROM public.%I WHERE %s RETURNING *) INSERT INTO public.%I SELECT * FROM stray',
                parent || '_default', in_day, child
            );
            EXECUTE format('REVOKE DELETE ON public.%I FROM CURRENT_USER', parent || '_default');
        END IF;
        EXECUTE format(
            'ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
            parent, child, day::timestamptz, (day + 1)::timestamptz
        );
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON public.%I FROM CURRENT_USER', child);
        made := true;
    END LOOP;
    RETURN made;
END
$$;

COMMENT ON FUNCTION audit_make_partition IS 'Make the partitions of one day (UTC); false when nothing was to be made';

CREATE FUNCTION audit_make_partitions(days_ahead integer) RETURNS SETOF date
LANGUAGE sql
SET search_path = pg_catalog, public, pg_temp
SET timezone = 'UTC'
AS $$
    SELECT day
    FROM (
        SELECT current_date + ahead AS day FROM generate_series(0, days_ahead) AS ahead
        UNION
        SELECT decided_at::date FROM public.model_routing_decisions_default
        UNION
        SELECT settled_at::date FROM public.model_routing_outcomes_default
    ) AS days
    WHERE public.audit_make_partition(day)
    ORDER BY day
$$;

COMMENT ON FUNCTION audit_make_partitions IS 'Make the partitions of today, of days to come, and of what lies in DEFAULT';

CREATE FUNCTION audit_drop_before(day date) RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '5s'
AS $$
DECLARE
    child text;
BEGIN
    FOR child IN
        SELECT relname
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent IN ('public.model_routing_decisions'::regclass, 'public.model_routing_outcomes'::regclass)
            AND relname ~ '_\d{8,}$'
            AND to_date(substring(relname FROM '\d{8,}$'), 'YYYYMMDD') < day
        ORDER BY relname
    LOOP
        EXECUTE format('DROP TABLE public.%I', child);
        RETURN NEXT child;
    END LOOP;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO public.audit_dropped (before) VALUES (day);
    -- Steps go as an unbroken beginning of the numbers; the last of each partition stays, for the sink goes on from it.
    GRANT DELETE ON public.journal_steps TO CURRENT_USER;
    DELETE FROM public.journal_steps AS step
    USING (
        SELECT journal, partition, least(max(seq), coalesce(min(seq) FILTER (WHERE now >= day), max(seq))) AS keep_from
        FROM public.journal_steps
        GROUP BY journal, partition
    ) AS kept
    WHERE step.journal = kept.journal AND step.partition = kept.partition AND step.seq < kept.keep_from;
    REVOKE DELETE ON public.journal_steps FROM CURRENT_USER;
END
$$;

COMMENT ON FUNCTION audit_drop_before IS 'Drop the days before one, whole, with their steps; says which partitions went';

-- The sink may not read the tables, but has to know where it stands.
CREATE FUNCTION journal_standing(of_journal text)
RETURNS TABLE (partition integer, seq bigint, journal_offset bigint, record_sha256 bytea, chain_sha256 bytea)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
    -- From one partition to the next through the primary key, however many steps there are.
    WITH RECURSIVE partitions AS (
        (SELECT s.partition FROM public.journal_steps s WHERE s.journal = of_journal ORDER BY s.partition LIMIT 1)
        UNION ALL
        SELECT (
            SELECT s.partition FROM public.journal_steps s
            WHERE s.journal = of_journal AND s.partition > p.partition
            ORDER BY s.partition LIMIT 1
        )
        FROM partitions p
        WHERE p.partition IS NOT NULL
    )
    SELECT last.partition, last.seq, last.journal_offset, last.record_sha256, last.chain_sha256
    FROM partitions
    CROSS JOIN LATERAL (
        SELECT * FROM public.journal_steps s
        WHERE s.journal = of_journal AND s.partition = partitions.partition
        ORDER BY s.seq DESC LIMIT 1
    ) AS last
$$;

COMMENT ON FUNCTION journal_standing IS 'The last step of each partition that stands in the audit';
