"""Transports, RFC 3261 §18: sockets, flows, next hops."""
