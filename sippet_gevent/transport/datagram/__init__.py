"""Datagrams, RFC 3261 §18: UDP, and what else arrives on its socket: STUN and ICMP errors."""
