"""Datagrams, RFC 3261 §18: UDP, and the STUN messages and ICMP errors that arrive on its socket."""
