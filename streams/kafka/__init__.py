"""Kafka behind the ports of `streams/partition/`, and the Kafka clients of all other parts."""
