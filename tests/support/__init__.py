"""What tests are written with: builders, the router harness, event strategies, brokers and databases."""
