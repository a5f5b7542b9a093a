"""Transports of streams, RFC 3261 §18: TCP and TLS."""
