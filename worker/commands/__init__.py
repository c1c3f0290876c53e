"""The commands, a module each: its docstring is its help, `add_flags(parser)` what it takes,
`run(options)` what it does.

`worker.cli` imports the one that is asked for. What several share is in `common`.
"""
