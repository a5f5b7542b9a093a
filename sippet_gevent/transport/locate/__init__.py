"""Where a URI leads, RFC 3263: names to addresses, by DNS or as you say."""
