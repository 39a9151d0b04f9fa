"""Reads: plain values for terminal, JSON, metrics and web alike. Nothing here writes, prints or waits for a broker."""
