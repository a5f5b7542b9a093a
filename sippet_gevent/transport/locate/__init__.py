"""Locating SIP servers, RFC 3263: from a URI to addresses, by DNS or from a table."""
