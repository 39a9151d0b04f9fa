-- What shadows find: their runs, how far each is, and each difference from the live decisions. These tables are no part of
-- the audit: a run may be removed again, and the audit's own tables are not touched by a shadow.

CREATE TABLE shadow_runs (
    run           uuid        PRIMARY KEY,
    name          text        NOT NULL,
    mode          text        NOT NULL DEFAULT 'shadow' CHECK (mode = 'shadow'),
    policy        text        NOT NULL,
    catalog       text        NOT NULL,
    journal       text        NOT NULL,
    started_at    timestamptz NOT NULL,
    stop_asked_at timestamptz
);

COMMENT ON TABLE shadow_runs IS 'One row a run of a shadow: the same name with other rules, or started again after a stop, is another run';
COMMENT ON COLUMN shadow_runs.journal IS 'The live journal that it follows, as the audit names it';

-- Of one name one run is under way.
CREATE UNIQUE INDEX shadow_runs_name ON shadow_runs (name) WHERE stop_asked_at IS NULL;

CREATE TABLE shadow_progress (
    run            uuid    NOT NULL REFERENCES shadow_runs ON DELETE CASCADE,
    partition      integer NOT NULL,
    seq            bigint  NOT NULL,
    journal_offset bigint  NOT NULL,
    record_sha256  bytea   NOT NULL,
    chain_sha256   bytea   NOT NULL,
    journal_id     text,
    sums           jsonb   NOT NULL,
    PRIMARY KEY (run, partition)
);

COMMENT ON TABLE shadow_progress IS 'The last step of the live journal that a run has compared, and its sums up to there';

CREATE TABLE shadow_differences (
    run           uuid        NOT NULL REFERENCES shadow_runs ON DELETE CASCADE,
    difference_id uuid        NOT NULL,
    name          text        NOT NULL,
    mode          text        NOT NULL DEFAULT 'shadow' CHECK (mode = 'shadow'),
    kind          text        NOT NULL,
    partition     integer     NOT NULL,
    seq           bigint      NOT NULL,
    decided_at    timestamptz NOT NULL,
    pool          text        NOT NULL,
    task_id       text        NOT NULL,
    attempt       integer     NOT NULL,
    priority      smallint    NOT NULL,
    title         text,
    ev            double precision,
    layer         text,
    lane          text,
    tenant_id     text,
    task_type     text,
    policy        text        NOT NULL,
    catalog       text        NOT NULL,
    live_policy   text        NOT NULL,
    live_catalog  text        NOT NULL,
    live          jsonb       NOT NULL,
    shadow        jsonb       NOT NULL,
    PRIMARY KEY (run, difference_id)
);

COMMENT ON TABLE shadow_differences IS 'One row a difference between the live decision about a task and the shadow''s, with both answers';
COMMENT ON COLUMN shadow_differences.difference_id IS 'Id of the decision that differs';

CREATE INDEX shadow_differences_kind ON shadow_differences (run, kind, decided_at DESC);
CREATE INDEX shadow_differences_task ON shadow_differences (task_id);

CREATE VIEW v_shadow_runs AS SELECT * FROM shadow_runs;
CREATE VIEW v_shadow_progress AS SELECT * FROM shadow_progress;
CREATE VIEW v_shadow_differences AS SELECT * FROM shadow_differences;

-- A shadow reads back where it was; the audit's tables stay without any right to that.
GRANT SELECT, INSERT, UPDATE, DELETE ON shadow_runs, shadow_progress, shadow_differences TO slotwise_write;
GRANT SELECT ON v_shadow_runs, v_shadow_progress, v_shadow_differences TO slotwise_read;
