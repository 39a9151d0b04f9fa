"""What follows the journal and keeps it for people: the audit in Postgres, JSON lines in a file.

`follow.py` holds the one rule all of them go by (the next number of each partition, nothing else), `records.py` reads
the topic, `postgres.py` and `jsonl.py` are where steps end up, `explain.py` tells them again. The SQL lives in `sql/`.
"""
