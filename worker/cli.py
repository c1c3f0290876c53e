"""The command line: finds the command, reads its flags, turns errors into exit codes.

Each command is a module of `worker.commands` with `add_flags(parser)` and `run(options)`; its
docstring is its help. Only the one that is asked for is imported, and it imports heavy modules in
`run`: the daemon's first request must not wait for the others.
"""

import argparse
import re
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
    *("crop", "label", "train", "evaluate", "compare", "export"),
)


class Parser(argparse.ArgumentParser):
    """One whose help is a docstring, and whose usage and errors are one line each."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("usage", "%(prog)s [options]")
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        self.description = re.sub(r"\n *", "\n", (self.description or "").strip())

    def print_help(self, file: object = None) -> None:
        print(self.format_help(), end="")  # argparse itself would hide that nobody can read it

    def error(self, message: str) -> NoReturn:
        flag = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        hint = did_you_mean(flag[1], re.findall(r"--[\w-]+", self.format_help())) if flag else ""
        raise UsageError(f"{message}{hint} (see {self.prog} --help)")


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code that README.md lists."""
    open_streams()
    problem: WorkerError
    try:
        try:
            code = run_command(arguments)
        except SystemExit as end:  # --help
            code = int(end.code or 0)
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
    name, *rest = arguments or ("run",)
    if name in ("-h", "--help", "--version"):
        print(f"{PROGRAM} {__version__}" if name == "--version" else overview())
        return 0
    if name.startswith("-"):  # `emotion-worker --url …` starts the daemon
        name, rest = "run", [*arguments]
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        raise UsageError(f"there is no command {name}{hint} (see {PROGRAM} --help)")
    command = find(name)
    parser = Parser(prog=f"{PROGRAM} {name}", description=command.__doc__)
    command.add_flags(parser)
    code: int = command.run(parser.parse_args(rest))
    return code


def find(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f"worker.commands.{name.replace('-', '_')}")


def overview() -> str:
    """What `--help` without a command says."""
    lines = [f"  {name:<13} {(find(name).__doc__ or '').partition('.')[0]}" for name in COMMANDS]
    head = [f"usage: {PROGRAM} [COMMAND] [options]", "", PURPOSE, "", "commands:"]
    end = ["", f"`{PROGRAM} COMMAND --help` shows each with an example; `--version` the version."]
    return "\n".join(head + lines + end)
