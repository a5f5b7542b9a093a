"""Transactions, RFC 3261 §17, RFC 6026, RFC 4320: state machines, timers and keys. Pure."""
