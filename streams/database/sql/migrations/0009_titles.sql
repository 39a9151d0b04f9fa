-- The title of each decision's task, and its words, so that a decision can be found by them.
-- The column may be absent: a sink of the version before goes on writing while this one is rolled out.

ALTER TABLE model_routing_decisions ADD COLUMN title text;

COMMENT ON COLUMN model_routing_decisions.title IS
    'Title of the task, cut to 200 characters; null: it has none, titles are left out, or by an older slotwise';

-- Punctuation of ASCII divides words: the parser of Postgres takes README.md or src/login.py for one. No language is
-- meant, so no word is left out and none is shortened.
CREATE FUNCTION audit_words(title text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $sql$
    SELECT to_tsvector(
        'pg_catalog.simple'::regconfig,
        translate(title, '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32))
    )
$sql$;

COMMENT ON FUNCTION audit_words IS 'The words of a title, as they are indexed and looked for';

CREATE INDEX model_routing_decisions_words ON model_routing_decisions USING gin (audit_words(title))
    WHERE title IS NOT NULL;

CREATE OR REPLACE VIEW v_model_routing_decisions AS SELECT * FROM model_routing_decisions;

REVOKE EXECUTE ON FUNCTION audit_words(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_words(text) TO slotwise_read, slotwise_write;
