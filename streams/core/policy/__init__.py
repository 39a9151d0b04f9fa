"""Rules and data: policy and catalogue as values, and each rule's answer for a task and a model."""
