"""The command line: `gpuzarr info|tree|explain|read|verify|doctor|calibrate|demo`, a module each.

A command is a module with `HELP`, `add_arguments(parser)` and `run(args, screen) -> exit status`;
`command_line` parses, opens nothing, and turns errors into one line. Exit statuses: 0 all is well,
1 problems were found (`verify`, `doctor`, `demo`), 2 it could not be done.
"""

from gpuzarr.cli.command_line import main

__all__ = ["main"]
