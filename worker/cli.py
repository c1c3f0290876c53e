"""The command line: finds the command, reads its flags, turns errors into exit codes.

Each command is a module of `worker.commands` with HELP, EXAMPLE, `add_flags(parser)` and
`run(options)`. Only the one that is asked for is imported, and it imports heavy modules in `run`:
the daemon's first request must not wait for the others.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from worker import PROGRAM, __version__
from worker.errors import Stop, UsageError, WorkerError, package_missing
from worker.hints import did_you_mean
from worker.terminal import lost_output, open_streams, safe

EXIT_INTERRUPTED = 128 + 2
PURPOSE = "Pulls images from a server, finds faces, names their emotions, stores them."
COMMANDS = (
    *("run", "once", "demo", "demo-server", "check", "results", "report", "analyze", "live"),
    *("crop", "label", "train", "evaluate", "compare"),
)


class Parser(argparse.ArgumentParser):
    """One whose usage, example and errors are one line each."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("usage", "%(prog)s [options]")
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code that README.md lists."""
    open_streams()
    problem: WorkerError
    try:
        code = run_command(arguments)
        sys.stdout.flush()
        return code
    except WorkerError as error:
        problem = error
    except ModuleNotFoundError as error:
        problem = package_missing(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        if not lost_output(error):
            raise
        problem = Stop(f"cannot write to standard output: {error.strerror}")
    print(f"{PROGRAM}: {safe(problem)}", file=sys.stderr)
    return problem.exit_code


def run_command(arguments: Sequence[str]) -> int:
    """Run the command that the first argument names, or `run` if it names none."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("run", ())
    if name in ("-h", "--help", "--version"):
        overview().parse_args([name])
    if name.startswith("-"):  # `emotion-worker --url …` starts the daemon
        name, rest = "run", arguments
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        raise UsageError(f"there is no command {name}{hint} (see {PROGRAM} --help)")
    command = find(name)
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        description=command.HELP,
        epilog=f"example: {PROGRAM} {command.EXAMPLE}",
    )
    command.add_flags(parser)
    code: int = command.run(parser.parse_args(rest))
    return code


def find(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f"worker.commands.{name.replace('-', '_')}")


def overview() -> argparse.ArgumentParser:
    """The parser behind `--help` without a command, which lists them all."""
    lines = (f"  {name:<13} {find(name).HELP}" for name in COMMANDS)
    parser = Parser(
        prog=PROGRAM,
        usage="%(prog)s [COMMAND] [options]",
        description="\n".join((PURPOSE, "", "commands:", *lines)),
        epilog=f"`{PROGRAM} COMMAND --help` shows each command with an example.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return parser
