"""How this process reaches Kafka: encryption, certificates and login, and why a broker refuses them."""
