"""The commands, a module each: HELP, EXAMPLE, `add_flags(parser)` and `run(options)`.

`worker.cli` imports the one that is asked for. What several share is in `common`.
"""
