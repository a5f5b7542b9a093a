"""The verbs of the `sippet` command, one in each file. __main__.py reads the arguments and imports
the verb."""
