"""`results`: look into the JSON file."""

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from worker.commands.common import (
    EXIT_DATABASE,
    add_configuration,
    configure,
    emotion,
    new_alarm,
    positive,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.record import Record
    from worker.viewing.results import Filter

HELP = "look into the JSON file, or several as one"
EXAMPLE = "results --emotion fear --since 2026-11-24 --csv"
SEVERAL = "default: [database] path; several, such as results-*.json, are shown as one"
TIME = "ISO 8601, UTC if no zone is given"
FOLLOW_EVERY = 0.5  # seconds


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", type=Path, metavar="FILE", nargs="+", help=SEVERAL)
    parser.add_argument("--last", type=positive, metavar="N", help="only the last N")
    parser.add_argument("--emotion", type=emotion, help="a face reached the threshold for it")
    parser.add_argument("--file", metavar="PATTERN", help="file names such as 'cam1*'")
    parser.add_argument("--since", metavar="TIME", help=TIME)
    parser.add_argument("--until", metavar="TIME", help="up to, not including")
    parser.add_argument("--follow", action="store_true", help="go on with what comes")
    how = parser.add_mutually_exclusive_group()
    for flag, words in (
        ("--counts", "only how many images, faces and emotions"),
        ("--json", "one record a line"),
        ("--csv", "one face a line"),
        ("--seed-format", '{"images": [...]}: name, threshold, faces'),
        ("--verify", "repair and check the file"),
    ):
        how.add_argument(flag, action="store_true", help=words)
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    config = configure(options)
    from worker.database.database import posting_states, repair, verify
    from worker.terminal import safe, show_table, utf8_output
    from worker.viewing import results

    paths = results.distinct(options.database or [config.database.path])
    if options.verify:
        found = [verify(path) for path in paths]
        print("\n".join(line for each in found for line in each.lines()))
        return 0 if all(each.sound for each in found) else EXIT_DATABASE
    chosen = results.Filter(
        emotion=options.emotion,
        file=options.file,
        since=results.parse_time(options.since) if options.since else None,
        until=results.parse_time(options.until) if options.until else None,
    )
    for path in paths:
        repair(path)
    selected = select(options, paths, chosen)
    if options.counts:
        rows = [(name, f"{count}") for name, count in results.counts(selected).items()]
        show_table("", ("what", "how many"), rows)
    elif options.json or options.csv or options.seed_format:
        utf8_output()
        write = results.write_seed_format
        if options.json or options.csv:
            write = results.write_json if options.json else results.write_csv
        write(selected, sys.stdout)
    elif options.follow:
        for row in results.table_rows(selected):
            print("\t".join(map(safe, row)))
    else:
        columns = ("processed", "file", "threshold", "faces", "post")
        posts = {
            task: reason or state for path in paths for task, state, reason in posting_states(path)
        }
        title = ", ".join(map(str, paths))
        show_table(title, columns, results.table_rows(selected, posts))
    return 0


def select(options: argparse.Namespace, paths: list[Path], chosen: "Filter") -> "Iterable[Record]":
    """The records that the flags choose; with --follow also those that are still to come."""
    from worker.database.database import follow_records
    from worker.viewing import results

    if not options.follow:
        return results.select(results.read_files(paths), chosen, options.last)
    alarm = new_alarm()

    def wait() -> bool:
        sys.stdout.flush()
        alarm.wait(FOLLOW_EVERY)
        return not alarm.stop_requested

    every = results.checked(follow_records(paths, wait), "what follows")
    selected = results.select(every, chosen, None)
    if options.last:  # of those that are there already
        there = sum(1 for _ in results.select(results.read_files(paths), chosen, None))
        return islice(selected, max(0, there - options.last), None)
    return selected
