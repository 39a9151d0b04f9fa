-- Operators' events and money: what was said to the fleet and what moved in tenants' budgets, once each, beside the
-- decisions; and what decisions and outcomes tell since then: flags, whether it was a fallback, the price's
-- date, what was asked, what it cost.
-- Everything new has a default: a sink of the version before goes on writing while this one is rolled out.

ALTER TABLE model_routing_decisions
    ADD COLUMN flags     text[]  NOT NULL DEFAULT '{}',
    ADD COLUMN fallback  boolean NOT NULL DEFAULT false,
    ADD COLUMN priced_at date,
    ADD COLUMN asked     jsonb;

COMMENT ON COLUMN model_routing_decisions.flags IS 'Worth an operator''s look: watching, unknown_price, plugin_failed';
COMMENT ON COLUMN model_routing_decisions.fallback IS
    'The strategy''s first choice was refused by one of the gates exhausted to credit, or was busy';
COMMENT ON COLUMN model_routing_decisions.priced_at IS 'Date of the price behind the estimate';
COMMENT ON COLUMN model_routing_decisions.asked IS
    'What the gates looked at of the task''s event; on the first decision about a task that did not have to be held back';

ALTER TABLE model_routing_outcomes ADD COLUMN actual_cost_usd numeric;

COMMENT ON COLUMN model_routing_outcomes.cost_usd IS 'As the slot told';
COMMENT ON COLUMN model_routing_outcomes.actual_cost_usd IS
    'What counts: as told, else of the tokens told, else as estimated; none where no price is known';

ALTER TABLE journal_steps
    ADD COLUMN controls integer NOT NULL DEFAULT 0,
    ADD COLUMN money    integer NOT NULL DEFAULT 0;

CREATE TABLE fleet_controls_taken (
    partition  integer     NOT NULL,
    seq        bigint      NOT NULL,
    control_id text        NOT NULL,
    kind       text        NOT NULL,
    by         text        NOT NULL,
    pool       text,
    at         timestamptz NOT NULL,
    taken_at   timestamptz NOT NULL,
    event      jsonb       NOT NULL,
    mode       text        NOT NULL,
    journal    text        NOT NULL,
    PRIMARY KEY (taken_at, journal, partition, seq, control_id)
) PARTITION BY RANGE (taken_at);

COMMENT ON TABLE fleet_controls_taken IS 'Every operator''s event that was taken; one that concerns all pools stands once a partition';
COMMENT ON COLUMN fleet_controls_taken.at IS 'When it was said, says who said it';
COMMENT ON COLUMN fleet_controls_taken.taken_at IS 'The accepted time of its record, from which on it counts';
COMMENT ON COLUMN fleet_controls_taken.event IS 'As it was sent; without the texts of a policy, of which the hashes stand';

CREATE INDEX fleet_controls_taken_kind ON fleet_controls_taken (kind, taken_at);

CREATE TABLE fleet_controls_taken_default PARTITION OF fleet_controls_taken DEFAULT;

CREATE TABLE budget_movements (
    partition   integer     NOT NULL,
    seq         bigint      NOT NULL,
    place       integer     NOT NULL,
    pool        text        NOT NULL,
    tenant_id   text        NOT NULL,
    kind        text        NOT NULL,
    amount_usd  numeric     NOT NULL,
    decision_id uuid,
    control_id  text,
    at          timestamptz NOT NULL,
    mode        text        NOT NULL,
    journal     text        NOT NULL,
    PRIMARY KEY (at, journal, partition, seq, place)
) PARTITION BY RANGE (at);

COMMENT ON TABLE budget_movements IS 'Every movement in a tenant''s budget: credit, reserve, settle, release';
COMMENT ON COLUMN budget_movements.place IS 'Which movement of its step it is, from 0';
COMMENT ON COLUMN budget_movements.amount_usd IS 'Credited (may be negative), held back, spent, or given back';
COMMENT ON COLUMN budget_movements.decision_id IS 'The decision that held it back; what settles or releases names it too';

CREATE INDEX budget_movements_decision ON budget_movements (decision_id) WHERE decision_id IS NOT NULL;

CREATE TABLE budget_movements_default PARTITION OF budget_movements DEFAULT;

-- What dropped days held, so that balances go on: credits and settlements as sums, and each reservation that was open
-- on its own; what later closes one of these is kept on its own as well.
CREATE TABLE budget_carried (
    journal     text    NOT NULL,
    mode        text    NOT NULL,
    pool        text    NOT NULL,
    tenant_id   text    NOT NULL,
    kind        text    NOT NULL,
    amount_usd  numeric NOT NULL,
    decision_id uuid,
    dropped     text    NOT NULL
);

COMMENT ON TABLE budget_carried IS 'What dropped days held of tenants'' budgets';

CREATE OR REPLACE FUNCTION audit_make_partition(day date) RETURNS boolean
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
        VALUES
            ('model_routing_decisions', 'decided_at'), ('model_routing_outcomes', 'settled_at'),
            ('fleet_controls_taken', 'taken_at'), ('budget_movements', 'at')
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

CREATE OR REPLACE FUNCTION audit_make_partitions(days_ahead integer) RETURNS SETOF date
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
        UNION
        SELECT taken_at::date FROM public.fleet_controls_taken_default
        UNION
        SELECT at::date FROM public.budget_movements_default
    ) AS days
    WHERE public.audit_make_partition(day)
    ORDER BY day
$$;

CREATE OR REPLACE FUNCTION audit_drop_before(day date) RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '5s'
AS $$
DECLARE
    parent regclass;
    child  text;
BEGIN
    FOR parent, child IN
        SELECT inhparent, relname
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent IN (
                'public.model_routing_decisions'::regclass, 'public.model_routing_outcomes'::regclass,
                'public.fleet_controls_taken'::regclass, 'public.budget_movements'::regclass
            )
            AND relname ~ '_\d{8,}$'
            AND to_date(substring(relname FROM '\d{8,}$'), 'YYYYMMDD') < day
        ORDER BY relname
    LOOP
        IF parent = 'public.budget_movements'::regclass THEN
            EXECUTE format(
                $carry$
                INSERT INTO public.budget_carried (journal, mode, pool, tenant_id, kind, amount_usd, decision_id, dropped)
                WITH gone AS (
                    SELECT
                        moved.journal, moved.mode, moved.pool, moved.tenant_id, moved.kind, moved.amount_usd,
                        moved.decision_id,
                        CASE
                            WHEN moved.kind = 'reserve' THEN NOT EXISTS (
                                SELECT FROM public.budget_movements AS closing
                                WHERE closing.decision_id = moved.decision_id AND closing.journal = moved.journal
                                    AND closing.kind IN ('settle', 'release')
                            )
                            ELSE EXISTS (
                                SELECT FROM public.budget_carried AS opening
                                WHERE opening.decision_id = moved.decision_id AND opening.journal = moved.journal
                                    AND opening.kind = 'reserve'
                            )
                        END AS alone
                    FROM public.%1$I AS moved
                )
                SELECT journal, mode, pool, tenant_id, kind, amount_usd, decision_id, %1$L FROM gone WHERE alone
                UNION ALL
                SELECT journal, mode, pool, tenant_id, kind, sum(amount_usd), NULL, %1$L
                FROM gone
                WHERE kind IN ('credit', 'settle') AND NOT alone
                GROUP BY journal, mode, pool, tenant_id, kind
                $carry$,
                child
            );
        END IF;
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

-- Who may do what: the writer adds, nobody changes or removes, as for the tables before.
REVOKE UPDATE, DELETE, TRUNCATE ON
    fleet_controls_taken, fleet_controls_taken_default, budget_movements, budget_movements_default, budget_carried
FROM slotwise_migrate;

GRANT INSERT ON fleet_controls_taken, budget_movements TO slotwise_write;
