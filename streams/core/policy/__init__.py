"""Rules and data: the policy and the catalogue as values, and what each rule says of a task and a model."""
