"""The verbs of the `sippet` command, one a file. __main__.py reads the arguments and imports the
verb."""
