"""The engine, RFC 3261 §17 and §18: wires transports to transactions, below the cores."""
