#!/bin/sh
# Runs once, when the database is made: the audit's roles, and the logins of sink and readers. Passwords never stand in the SQL text.
set -eu
psql --set ON_ERROR_STOP=1 --set sink="$SLOTWISE_SINK_PASSWORD" --set reader="$SLOTWISE_READER_PASSWORD" \
  --username postgres --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE slotwise_migrate NOLOGIN;
CREATE ROLE slotwise_write NOLOGIN;
CREATE ROLE slotwise_read NOLOGIN;
CREATE ROLE slotwise_sink LOGIN PASSWORD :'sink' IN ROLE slotwise_write;
CREATE ROLE slotwise_reader LOGIN PASSWORD :'reader' IN ROLE slotwise_read;
SQL
