"""The engine, RFC 3261 §17 and §18: transports and transactions, below the cores."""
