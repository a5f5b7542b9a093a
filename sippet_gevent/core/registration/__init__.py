"""Registrations of our own, RFC 3261 §10.2: kept up until the program ends them."""
