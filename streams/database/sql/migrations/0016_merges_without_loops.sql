-- A statement of `audit_merge` joins two sets of sums that it has just made. Where the statistics take their tables for empty
-- (analysed before the first rows came), the planner made the second set again for each row of the first: minutes an hour.

ALTER FUNCTION audit_merge(text, integer, interval, interval) SET enable_nestloop = off;
