"""Stateful proxies, RFC 3261 §16."""
