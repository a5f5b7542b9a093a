"""Back-to-back user agents, RFC 7092: two calls whose sessions and requests are connected."""
