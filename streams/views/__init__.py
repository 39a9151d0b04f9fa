"""Reads: plain values for terminal, JSON, metrics and web. This package does not write, print or wait for a broker."""
