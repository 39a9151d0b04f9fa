"""How slotwise is tested: fixtures in fix_*.py, and one directory for each kind of test."""
