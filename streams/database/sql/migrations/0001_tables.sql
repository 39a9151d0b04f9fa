-- The audit's three tables: what was decided, how the work went, and which steps of the journal stand here.
-- Runs as slotwise_migrate, who owns everything; see ../roles.sql for who may do what.

CREATE TABLE model_routing_decisions (
    decision_id            uuid        NOT NULL,
    partition              integer     NOT NULL,
    seq                    bigint      NOT NULL,
    pool                   text        NOT NULL,
    task_id                text        NOT NULL,
    outcome                text        NOT NULL,
    chosen_slot_id         text,
    chosen_model           text,
    tier                   smallint,
    alternatives           jsonb       NOT NULL,
    reason_code            text        NOT NULL,
    reason                 text        NOT NULL,
    decided_at             timestamptz NOT NULL,
    at                     timestamptz NOT NULL,
    layer                  text,
    lane                   text,
    agent_role             text,
    task_type              text,
    tenant_id              text,
    complexity             text,
    strategy               text        NOT NULL,
    objective              text,
    priority               smallint    NOT NULL,
    ev                     double precision,
    ev_percentile          double precision,
    p50                    double precision,
    p90                    double precision,
    lifted                 boolean     NOT NULL,
    utilisation            double precision,
    estimated_cost_usd     numeric,
    saved_vs_premium_usd   numeric,
    saved_vs_next_free_usd numeric,
    propensity             double precision,
    attempt                integer     NOT NULL,
    lease                  bigint,
    max_tokens             bigint,
    mode                   text        NOT NULL,
    policy                 text        NOT NULL,
    catalog                text        NOT NULL,
    input_topic            text        NOT NULL,
    input_partition        integer     NOT NULL,
    input_offset           bigint      NOT NULL,
    journal                text        NOT NULL,
    -- A derived id comes again when a history is replayed at its own times; the journal tells the two apart.
    PRIMARY KEY (decided_at, decision_id, journal)
) PARTITION BY RANGE (decided_at);

COMMENT ON TABLE model_routing_decisions IS 'Every decision, waiting included, once; `explain` tells them as sentences';
COMMENT ON COLUMN model_routing_decisions.partition IS 'Partition of the journal, with seq the step that holds the decision';
COMMENT ON COLUMN model_routing_decisions.alternatives IS '{model: {"gate": verdict, "score"?: number}} for the pool''s whole fleet';
COMMENT ON COLUMN model_routing_decisions.decided_at IS 'The accepted time of the input that led to it, never a clock of ours';
COMMENT ON COLUMN model_routing_decisions.at IS 'When it happened, said the producer; waits are counted from it';
COMMENT ON COLUMN model_routing_decisions.journal IS 'The journal it was read from: live decisions, a shadow, one replay';

-- By time the primary key serves.
CREATE INDEX model_routing_decisions_task ON model_routing_decisions (task_id, decided_at);
CREATE INDEX model_routing_decisions_slot ON model_routing_decisions (chosen_slot_id, decided_at)
    WHERE chosen_slot_id IS NOT NULL;

CREATE TABLE model_routing_decisions_default PARTITION OF model_routing_decisions DEFAULT;

CREATE TABLE model_routing_outcomes (
    decision_id   uuid        NOT NULL,
    partition     integer     NOT NULL,
    seq           bigint      NOT NULL,
    pool          text        NOT NULL,
    task_id       text        NOT NULL,
    slot_id       text        NOT NULL,
    model         text        NOT NULL,
    lease         bigint      NOT NULL,
    settled_at    timestamptz NOT NULL,
    at            timestamptz NOT NULL,
    status        text        NOT NULL,
    input_tokens  bigint,
    output_tokens bigint,
    cost_usd      numeric,
    latency_s     double precision,
    quality       double precision,
    accepted      boolean,
    error_class   text,
    fit           text,
    mode          text        NOT NULL,
    journal       text        NOT NULL,
    PRIMARY KEY (settled_at, decision_id, journal)
) PARTITION BY RANGE (settled_at);

COMMENT ON TABLE model_routing_outcomes IS 'How the work ended that a decision started; joined by decision_id and journal';
COMMENT ON COLUMN model_routing_outcomes.settled_at IS 'The accepted time of the step that took it in';
COMMENT ON COLUMN model_routing_outcomes.at IS 'When the slot was free again, said the slot';

CREATE INDEX model_routing_outcomes_task ON model_routing_outcomes (task_id, settled_at);

CREATE TABLE model_routing_outcomes_default PARTITION OF model_routing_outcomes DEFAULT;

CREATE TABLE journal_steps (
    journal        text        NOT NULL,
    partition      integer     NOT NULL,
    seq            bigint      NOT NULL,
    journal_offset bigint      NOT NULL,
    now            timestamptz NOT NULL,
    mode           text        NOT NULL,
    inputs         integer     NOT NULL,
    rejected       integer     NOT NULL,
    decisions      integer     NOT NULL,
    work           integer     NOT NULL,
    record_sha256  bytea       NOT NULL,
    chain_sha256   bytea       NOT NULL,
    -- The fence: a step is written by whoever commits its number first.
    PRIMARY KEY (journal, partition, seq)
);

COMMENT ON TABLE journal_steps IS 'One row a step that stands in the audit; its numbers have no gap, its hashes form a chain';
COMMENT ON COLUMN journal_steps.record_sha256 IS 'SHA-256 of the journal record, as its bytes are';
COMMENT ON COLUMN journal_steps.chain_sha256 IS 'SHA-256 of the previous step''s chain_sha256 (32 zero bytes before the first) and record_sha256';
