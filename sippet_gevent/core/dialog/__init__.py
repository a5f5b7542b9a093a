"""Dialogs and calls, RFC 3261 §12 to §15."""
