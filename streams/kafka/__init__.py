"""The broker behind the ports of `streams/partition/`, and the Kafka clients of everything else."""
