-- The id of the journal, by which one that was deleted and created again is known; steps of an older slotwise have none.

ALTER TABLE journal_steps ADD COLUMN journal_id text;

COMMENT ON COLUMN journal_steps.journal_id IS 'Id of the journal, which its steps carry: one that is created again has another; null: of an older slotwise';

CREATE OR REPLACE VIEW v_journal_steps AS SELECT * FROM journal_steps;

-- As journal_standing, which a sink of before still asks, and with the id.
CREATE FUNCTION journal_position(of_journal text)
RETURNS TABLE (
    partition integer, seq bigint, journal_offset bigint, record_sha256 bytea, chain_sha256 bytea, journal_id text
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT stands.partition, stands.seq, stands.journal_offset, stands.record_sha256, stands.chain_sha256, s.journal_id
    FROM public.journal_standing(of_journal) AS stands
    JOIN public.journal_steps AS s
        ON s.journal = of_journal AND s.partition = stands.partition AND s.seq = stands.seq
$$;

COMMENT ON FUNCTION journal_position IS 'The last step of each partition that stands in the audit, with the id of its journal';

REVOKE EXECUTE ON FUNCTION journal_position(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION journal_position(text) TO slotwise_write;
