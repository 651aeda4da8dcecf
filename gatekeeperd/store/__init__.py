"""Durable state: one commit for state, answers and witness records."""
