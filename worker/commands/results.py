"""Look into the JSON file, or several as one.

example: emotion-worker results --emotion fear --since 2026-11-24 --csv
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from worker import PROGRAM
from worker.commands.common import add_configuration, configure, new_alarm
from worker.hints import number, one_of
from worker.record import EMOTIONS, Record

if TYPE_CHECKING:  # it loads TinyDB
    from worker.viewing.results import Filter

FORMS = {
    "counts": "only how many images, faces and emotions",
    "json": "one record a line",
    "csv": "one face a line",
    "seed-format": '{"images": [...]}: name, threshold, faces',
    "verify": "repair and check the file",
}
WHOLE = ("json", "seed-format")  # records with all of their faces
SEVERAL = "default: [database] path; several, such as results-*.json, are shown as one"
DEMO = Path("demo", "results.json")
FOLLOW_EVERY = 0.5  # seconds
EXIT_DAMAGED = 5


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_filters(parser)
    parser.add_argument("--follow", action="store_true", help="go on with what comes; Ctrl-C ends")
    add = parser.add_mutually_exclusive_group().add_argument
    for form, words in FORMS.items():
        add(f"--{form}", action="store_const", dest="form", const=form, help=words)
    add("--sqlite", type=Path, metavar="FILE", help="write tables of images and faces")
    add_configuration(parser)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """The flags that say which records of which files; `report` has the same."""
    add = parser.add_argument
    add("--database", type=Path, metavar="FILE", nargs="+", help=SEVERAL)
    add("--last", type=number(int, 1, 1e9), metavar="N", help="only the last N")
    words = "faces that reached the threshold for it; may be given again"
    add("--emotion", type=one_of(*EMOTIONS), action="append", default=[], help=words)
    add("--file", metavar="PATTERN", help="file names such as 'cam1*'")
    add("--since", type=moment, metavar="TIME", help="ISO 8601, UTC if no zone is given")
    add("--until", type=moment, metavar="TIME", help="up to, not including")


def moment(text: str) -> datetime:
    from worker.viewing.results import parse_time

    return parse_time(text)


def new_filter(options: argparse.Namespace) -> "Filter":
    """What `add_filters` added, as the user set it."""
    from worker.viewing.results import Filter

    asked = (options.emotion, options.file, options.since, options.until, options.last)
    return Filter(*asked)


def find_files(options: argparse.Namespace, default: Path) -> list[Path]:
    """The files to look into: none, which is said, if the user named none and the usual one is not
    there yet."""
    from worker.terminal import safe
    from worker.viewing.results import distinct

    if options.database or default.exists():
        return distinct(options.database or [default])
    hint = f"; see the demo's: {PROGRAM} results --database {DEMO}" if DEMO.is_file() else ""
    # Not on standard output: a program that reads what comes shall read nothing.
    print(f"nothing is recorded yet: there is no {safe(default)}{hint}", file=sys.stderr)
    return []


def run(options: argparse.Namespace) -> int:
    config = configure(options)
    from worker.database import verify
    from worker.viewing.results import distinct, read_files

    default = config.database.path
    if options.form == "verify":
        found = [verify(path) for path in distinct(options.database or [default])]
        print("\n".join(line for each in found for line in each.lines()))
        return 0 if all(each.sound for each in found) else EXIT_DAMAGED
    chosen, paths = new_filter(options), find_files(options, default)
    if not paths and not options.follow:
        return 0
    paths = paths or [default]
    records = follow(paths, chosen) if options.follow else chosen.select(read_files(paths))
    show(options, chosen, paths, records)
    return 0


def show(
    options: argparse.Namespace, chosen: "Filter", paths: list[Path], records: Iterable[Record]
) -> None:
    """Write the records in the form that a flag asks for, or as a table."""
    from worker.database import posting_states
    from worker.terminal import safe, show_table, utf8_output
    from worker.viewing import formats
    from worker.viewing.results import counts
    from worker.viewing.table import print_records

    if options.form not in WHOLE:
        records = chosen.narrow(records)
    if options.sqlite:
        formats.write_sqlite(records, options.sqlite)
        print(f"{safe(options.sqlite)}: tables images and faces")
    elif options.form == "counts":
        show_table(("what", "how many"), [*counts(records).items()])
    elif options.form:
        utf8_output()
        formats.WRITERS[options.form](records, sys.stdout)
    else:
        posts = [] if options.follow else [post for path in paths for post in posting_states(path)]
        states = {task: reason or state for task, state, reason in posts}
        if not print_records(records, states or None):
            names = safe(", ".join(map(str, paths)))
            print(f"nothing matches, or nothing is recorded yet in {names}", file=sys.stderr)


def follow(paths: list[Path], chosen: "Filter") -> Iterator[Record]:
    """The records that are wanted of those that are there, then of those that come, until a signal
    asks to stop."""
    from worker.database import follow_records
    from worker.viewing.results import checked, read_files

    alarm = new_alarm()

    def wait() -> bool:
        sys.stdout.flush()
        alarm.wait(FOLLOW_EVERY)
        return not alarm.stop_requested

    while not paths[0].exists():  # until the first record
        if not wait():
            return
    every, skipped = replace(chosen, last=None), 0
    if chosen.last:  # of those that are there already
        there = sum(1 for _ in every.select(read_files(paths)))
        skipped = max(0, there - chosen.last)
    records = checked(follow_records(paths, wait), "what follows")
    yield from islice(every.select(records), skipped, None)
