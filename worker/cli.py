"""The command line: finds the command, reads its flags, turns errors into exit codes.

Each command is a module of `worker.commands` with HELP, EXAMPLE, `add_flags(parser)` and
`run(options)`. Only the one that is asked for is imported, and it imports heavy modules in `run`:
the daemon's first request must not wait for the others.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol, cast

from worker import PROGRAM, __version__
from worker.commands.common import (
    EXIT_FAILED,
    EXIT_REFUSED,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    example,
)
from worker.errors import (
    DiskRefuses,
    RetryLater,
    ServerRefuses,
    Stop,
    UsageError,
    WorkerError,
    package_missing,
)
from worker.hints import did_you_mean
from worker.terminal import lost_output, open_streams, safe

EXIT_INTERRUPTED = 128 + 2
PURPOSE = "Pulls images from a server, finds faces, names their emotions, stores them."
COMMANDS = (
    "run",
    "once",
    "demo",
    "demo-server",
    "check",
    "results",
    "report",
    "analyze",
    "live",
    "crop",
    "label",
    "train",
    "evaluate",
    "compare",
)


class Command(Protocol):
    """What a module of `worker.commands` offers."""

    HELP: str
    EXAMPLE: str

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Add what it takes beside `--help`."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


class Parser(argparse.ArgumentParser):
    """One whose errors are ours, and so one line each."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code that README.md lists."""
    open_streams()
    code = EXIT_FAILED
    try:
        code = run_command(arguments)
        sys.stdout.flush()
        return code
    except WorkerError as error:
        problem, code = str(error), exit_code(error)
    except ModuleNotFoundError as error:
        problem, code = str(package_missing(error)), EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError:
        fault = lost_output()
        if fault is None:
            raise
        problem = f"cannot write to standard output: {fault}"
    print(f"{PROGRAM}: {safe(problem)}", file=sys.stderr)
    return code


def run_command(arguments: Sequence[str]) -> int:
    """Run the command that the first argument names, or `run` if it names none."""
    first, rest = (arguments[0], arguments[1:]) if arguments else ("run", ())
    if first in ("-h", "--help", "--version"):
        overview().parse_args([first])
    if first.startswith("-"):  # `emotion-worker --url …` starts the daemon
        first, rest = "run", arguments
    if first not in COMMANDS:
        raise UsageError(
            f"there is no command {first}{did_you_mean(first, COMMANDS)} (see {PROGRAM} --help)"
        )
    command = find(first)
    parser = Parser(
        prog=f"{PROGRAM} {first}",
        usage="%(prog)s [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # the example stays one line
        description=command.HELP,
        epilog=example(command.EXAMPLE),
    )
    command.add_flags(parser)
    return command.run(parser.parse_args(rest))


def find(name: str) -> Command:
    """The module of a command."""
    return cast(Command, import_module(f"worker.commands.{name.replace('-', '_')}"))


def overview() -> argparse.ArgumentParser:
    """The parser behind `--help` without a command, which lists them all."""
    lines = (f"  {name:<13} {find(name).HELP}" for name in COMMANDS)
    parser = Parser(
        prog=PROGRAM,
        usage="%(prog)s [COMMAND] [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{PURPOSE}\n\ncommands:\n" + "\n".join(lines),
        epilog=f"`{PROGRAM} COMMAND --help` shows each command with an example.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return parser


def exit_code(error: WorkerError) -> int:
    """The exit code of a command that this error ended."""
    match error:
        case Stop():
            return error.exit_code
        case ServerRefuses(status=401 | 403):
            return EXIT_REFUSED
        case ServerRefuses():
            return EXIT_USAGE
        case RetryLater() if not isinstance(error, DiskRefuses):
            return EXIT_UNREACHABLE
        case _:
            return EXIT_FAILED
