"""Registrations of our own, RFC 3261 §10.2: refreshed until the program ends them."""
