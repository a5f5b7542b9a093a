"""Where messages go, RFC 3261 §8.1.2, §16.4 to §16.7, §18.2.2: routes, names, flows."""
