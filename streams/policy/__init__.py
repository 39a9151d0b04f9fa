"""What we decide: rules and rankings over a given state and a given time, with a reason for every refusal."""
