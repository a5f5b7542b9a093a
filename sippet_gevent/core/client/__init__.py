"""Requests of our own, RFC 3261 §8.1: their transactions, their way out, the targets they try."""
