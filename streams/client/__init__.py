"""The other side of the contract: dispatchers and producers as Python programs, over Kafka or in memory."""
