"""The router: a pure core (state, policy, router) and the thin shell that runs it on Kafka, Faust and Postgres."""
