"""The command line: one file a verb; arguments in, a library call, its result rendered."""
