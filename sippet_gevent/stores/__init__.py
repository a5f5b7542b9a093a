"""Stores: what outlives a message, such as the bindings of a registrar, RFC 3261 §10.3."""
