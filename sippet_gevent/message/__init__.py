"""Messages, RFC 3261 §7, §19, §20, §25: bytes to objects and back. Pure."""
