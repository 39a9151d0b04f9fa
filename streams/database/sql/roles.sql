-- Three group roles, the same on every database of the server. People and services log in as roles of their own,
-- which are made members: GRANT slotwise_write TO my_sink. None of the three can log in.
--   slotwise_migrate  owns tables, views and functions; makes and drops partitions
--   slotwise_write    adds rows; can neither read, change nor remove any
--   slotwise_read     reads the views (v_...), nothing else
DO $roles$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['slotwise_migrate', 'slotwise_write', 'slotwise_read'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted);
        BEGIN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
            -- From Postgres 16 on, who makes a role may administer it but is no member, and could not act as it.
            IF wanted = 'slotwise_migrate' AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
            THEN
                EXECUTE pg_catalog.format('GRANT %I TO CURRENT_USER', wanted);
            END IF;
        EXCEPTION
            -- Another database of this server is being migrated at the same moment.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;

    IF NOT pg_catalog.has_schema_privilege('slotwise_migrate', 'public', 'CREATE') THEN
        GRANT USAGE, CREATE ON SCHEMA public TO slotwise_migrate;
    END IF;
    IF NOT pg_catalog.has_schema_privilege('slotwise_write', 'public', 'USAGE')
        OR NOT pg_catalog.has_schema_privilege('slotwise_read', 'public', 'USAGE')
    THEN
        GRANT USAGE ON SCHEMA public TO slotwise_write, slotwise_read;
    END IF;
END
$roles$;
