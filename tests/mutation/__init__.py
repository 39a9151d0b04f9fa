"""Mutation testing of `streams.core`: small mistakes put into the rules, to see whether a test notices each."""
