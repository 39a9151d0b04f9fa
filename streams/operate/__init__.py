"""Actions of operators and producers: send events, submit orders, get a recommendation, refresh prices."""
