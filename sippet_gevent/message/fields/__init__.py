"""The types of header field values, and the table of header fields, RFC 3261 §20. Pure."""
