"""What tests are written with: builders, the router rig, event strategies, brokers and databases."""
