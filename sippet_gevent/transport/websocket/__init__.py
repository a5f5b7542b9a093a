"""WebSocket, RFC 7118."""
