"""Transports of datagrams, RFC 3261 §18: UDP, and what its socket hears besides SIP."""
