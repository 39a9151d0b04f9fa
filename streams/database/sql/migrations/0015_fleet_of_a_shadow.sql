-- A shadow may have slots of its own: how many of each model in each pool. Without them it takes the live fleet's moves as given.

ALTER TABLE shadow_runs ADD COLUMN fleet jsonb;

COMMENT ON COLUMN shadow_runs.fleet IS 'Its slots by model, in each pool; null: the live ones, whose moves it takes as given';

CREATE OR REPLACE VIEW v_shadow_runs AS SELECT * FROM shadow_runs;
