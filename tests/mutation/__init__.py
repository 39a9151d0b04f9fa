"""Mutation testing of `streams.policy`: small mistakes put into the rules, to see whether a test notices each."""
