"""Transaction users, RFC 3261 §5: user agents, dialogs and calls, proxies, registrars."""
