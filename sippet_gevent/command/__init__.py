"""The `sippet` command's verbs, one to a file: __main__.py reads the arguments and imports the one
that was asked for."""
