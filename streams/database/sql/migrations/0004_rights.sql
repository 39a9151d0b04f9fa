-- Who may do what. The audit only grows: no role holds UPDATE, DELETE or TRUNCATE on it, its owner included.

REVOKE UPDATE, DELETE, TRUNCATE ON
    model_routing_decisions, model_routing_decisions_default,
    model_routing_outcomes, model_routing_outcomes_default,
    journal_steps
FROM slotwise_migrate;

GRANT INSERT ON model_routing_decisions, model_routing_outcomes, journal_steps TO slotwise_write;

REVOKE EXECUTE ON FUNCTION
    audit_make_partition(date), audit_make_partitions(integer), audit_drop_before(date), journal_standing(text)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_make_partition(date), journal_standing(text) TO slotwise_write;

GRANT SELECT ON
    v_model_routing_decisions, v_model_routing_outcomes, v_journal_steps, v_tier_mix, v_waits, v_spend, v_audit_check
TO slotwise_read;
