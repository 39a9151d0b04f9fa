"""What operators and producers do from outside: send events, give orders, ask for a recommendation, refresh prices."""
