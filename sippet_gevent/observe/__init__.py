"""Observability: counters and the log of floods; what every floor may call."""
