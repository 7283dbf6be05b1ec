"""Arguments in, exit status out: finds the command, gives it a screen, makes errors one line."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn

from gpuzarr.errors import GpuzarrError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from gpuzarr.cli.screen import Screen

COMMANDS = ("info", "tree", "explain", "read", "verify", "bench", "doctor", "calibrate", "demo")

OK = 0
FAILED = 2
INTERRUPTED = 130
"""What shells give for a program that was stopped with Ctrl-C."""

EPILOG = """\
A PATH is a directory or a .zip file that holds a Zarr hierarchy, or any node inside a directory; or
a URL (s3://, gs://, az://, https://), which -s says how to reach.

exit status: 0 all is well, 1 problems were found, 2 it could not be done.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` is everything behind the program's name."""
    if find_spec("rich") is None:
        print('The command line needs rich: pip install "gpuzarr[cli]"', file=sys.stderr)  # noqa: T201  rich is what is missing
        return FAILED
    commands = {name: import_module(f"gpuzarr.cli.{name}") for name in COMMANDS}
    args = make_parser(commands).parse_args(argv)
    screen: Screen = import_module("gpuzarr.cli.screen").Screen(json=args.json)
    status = OK
    try:
        try:
            status = commands[args.command].run(args, screen)
        except KeyboardInterrupt:
            status = INTERRUPTED
            screen.error("interrupted")
        except BrokenPipeError:
            raise
        except (GpuzarrError, OSError, MemoryError) as error:
            status = FAILED
            if args.debug:
                traceback.print_exc()
            screen.failure(error)
    except BrokenPipeError:
        pass  # the reader of a pipe went away (`gpuzarr tree x | head`)
    except OSError:
        status = FAILED  # and there is no way to say so
    return status if end_output() else status or FAILED


def end_output() -> bool:
    """Write what is left, and say whether that could be done, or nobody wants to have it.

    Python does it once more at exit and would complain there, so what fails here goes nowhere then.
    """
    good = True
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # it was closed when the program began
            continue
        try:
            stream.flush()
        except OSError as error:
            good = good and isinstance(error, BrokenPipeError)
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return good


class _Parser(argparse.ArgumentParser):
    """Arguments that it does not know are named without what follows: it may be secret."""

    def error(self, message: str) -> NoReturn:
        if message.startswith(("unrecognized arguments", "argument COMMAND")):
            message = re.sub(r"=.*", "=...", message, flags=re.DOTALL)
        super().error(message)


def make_parser(commands: dict[str, ModuleType]) -> argparse.ArgumentParser:
    """The parser of all commands, with what every command takes."""
    shared = _Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON, for programs")
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = _Parser(
        prog="gpuzarr",
        description="Look into Zarr stores, versions 2 and 3, check them, and read from them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in commands.items():
        command.add_arguments(
            subparsers.add_parser(
                name, parents=[shared], help=command.HELP, description=command.__doc__
            )
        )
    return parser
