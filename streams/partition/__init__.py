"""One partition: inputs in, one journal record out, applied only once it is durable. Knows neither Kafka nor Faust."""
