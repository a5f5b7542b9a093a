"""Authentication, RFC 3261 §22: Digest, and both sides of it."""
