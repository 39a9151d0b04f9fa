-- Tasks that were sent again after their end and ignored, beside the step that ignored them.
-- The column may be absent: a sink of the version before goes on writing while this one is rolled out.

ALTER TABLE journal_steps ADD COLUMN duplicates jsonb;

COMMENT ON COLUMN journal_steps.duplicates IS
    'Tasks sent again after their end and ignored: [{"pool", "task_id", "at", "ended", "ended_at"}, ...]; absent: none';

CREATE INDEX journal_steps_duplicates ON journal_steps USING gin (duplicates jsonb_path_ops);

CREATE OR REPLACE VIEW v_journal_steps AS SELECT * FROM journal_steps;
