"""Look into the JSON file, or several as one.

example: emotion-worker results --emotion fear --since 2026-11-24 --csv
"""

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from worker import PROGRAM
from worker.commands.common import add_configuration, configure, count, emotion, new_alarm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.record import Record
    from worker.viewing.results import Filter

SEVERAL = "default: [database] path; several, such as results-*.json, are shown as one"
TIME = "ISO 8601, UTC if no zone is given"
DEMO = Path("demo", "results.json")
FOLLOW_EVERY = 0.5  # seconds
EXIT_DAMAGED = 5


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_filters(parser)
    parser.add_argument("--follow", action="store_true", help="go on with what comes; Ctrl-C ends")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--counts", action="store_true", help="only how many images, faces and emotions")
    add("--json", action="store_true", help="one record a line")
    add("--csv", action="store_true", help="one face a line")
    add("--sqlite", type=Path, metavar="FILE", help="write tables of images and faces")
    add("--seed-format", action="store_true", help='{"images": [...]}: name, threshold, faces')
    add("--verify", action="store_true", help="repair and check the file")
    add_configuration(parser)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """The flags that say which records of which files; `report` has the same."""
    add = parser.add_argument
    add("--database", type=Path, metavar="FILE", nargs="+", help=SEVERAL)
    add("--last", type=count, metavar="N", help="only the last N")
    words = "faces that reached the threshold for it; may be given again"
    add("--emotion", type=emotion, action="append", default=[], help=words)
    add("--file", metavar="PATTERN", help="file names such as 'cam1*'")
    add("--since", metavar="TIME", help=TIME)
    add("--until", metavar="TIME", help="up to, not including")


def new_filter(options: argparse.Namespace) -> "Filter":
    """What `add_filters` added, as the user set it. Raises UsageError."""
    from worker.viewing.results import Filter, parse_time

    return Filter(
        emotions=options.emotion,
        file=options.file,
        since=parse_time(options.since) if options.since else None,
        until=parse_time(options.until) if options.until else None,
    )


def files(options: argparse.Namespace, default: Path) -> list[Path]:
    """The files to look into: none if nobody named one and the usual one is not there yet."""
    from worker.database import rotated_files
    from worker.viewing.results import distinct

    there = default.exists() or (default.parent.is_dir() and rotated_files(default))
    return distinct(options.database or ([default] if there else []))


def nothing_yet(path: Path) -> str:
    """What to say as long as the usual file is not there."""
    from worker.terminal import safe

    hint = f"; see the demo's: {PROGRAM} results --database {DEMO}" if DEMO.is_file() else ""
    return f"nothing is recorded yet: there is no {safe(path)}{hint}"


def run(options: argparse.Namespace) -> int:
    config = configure(options)
    from worker.database import posting_states, verify
    from worker.terminal import safe
    from worker.viewing.results import distinct
    from worker.viewing.table import print_records

    if options.verify:
        found = [verify(path) for path in distinct(options.database or [config.database.path])]
        print("\n".join(line for each in found for line in each.lines()))
        return 0 if all(each.sound for each in found) else EXIT_DAMAGED
    chosen, paths = new_filter(options), files(options, config.database.path)
    if not paths:
        # A program that reads what comes shall read nothing.
        form = options.json or options.csv or options.seed_format or options.follow
        print(nothing_yet(config.database.path), file=sys.stderr if form else sys.stdout)
        if not options.follow:
            return 0
        paths = [config.database.path]
    records = select(options, paths, chosen)
    if not export(options, records, chosen):
        posts = [] if options.follow else [post for path in paths for post in posting_states(path)]
        states = {task: reason or state for task, state, reason in posts}
        if not print_records(chosen.narrow(records), states or None):
            where = safe(", ".join(map(str, paths)))
            print(f"nothing matches, or nothing is recorded yet in {where}")
    return 0


def export(options: argparse.Namespace, records: "Iterable[Record]", chosen: "Filter") -> bool:
    """Write the records in the form that a flag asks for, if one does."""
    from worker.terminal import safe, show_table, utf8_output
    from worker.viewing import formats
    from worker.viewing.results import counts

    if options.counts:
        rows = [(name, f"{number}") for name, number in counts(chosen.narrow(records)).items()]
        show_table(("what", "how many"), rows)
    elif options.sqlite:
        formats.write_sqlite(chosen.narrow(records), options.sqlite)
        print(f"{safe(options.sqlite)}: tables images and faces")
    elif options.json or options.csv or options.seed_format:
        utf8_output()
        if options.csv:
            formats.write_csv(chosen.narrow(records), sys.stdout)
        else:
            write = formats.write_json if options.json else formats.write_seed_format
            write(records, sys.stdout)
    else:
        return False
    return True


def select(options: argparse.Namespace, paths: list[Path], chosen: "Filter") -> "Iterable[Record]":
    """The records that the flags choose; with --follow also those that are still to come."""
    from worker.database import follow_records
    from worker.viewing import results

    if not options.follow:
        return results.select(results.read_files(paths), chosen, options.last)
    alarm = new_alarm()

    def wait() -> bool:
        sys.stdout.flush()
        alarm.wait(FOLLOW_EVERY)
        return not alarm.stop_requested

    while not paths[0].exists():  # until the first record
        if not wait():
            return []
    every = results.checked(follow_records(paths, wait), "what follows")
    records = results.select(every, chosen, None)
    if options.last:  # of those that are there already
        there = sum(1 for _ in results.select(results.read_files(paths), chosen, None))
        return islice(records, max(0, there - options.last), None)
    return records
