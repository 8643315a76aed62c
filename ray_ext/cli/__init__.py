"""The command line: one file per group of verbs. Nothing here imports Ray before a verb needs it."""
