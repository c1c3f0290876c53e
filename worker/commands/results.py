"""`results`: look into the JSON file."""

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from worker.commands.common import add_configuration, configure, count, emotion, new_alarm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.record import Record

HELP = "look into the JSON file, or several as one"
EXAMPLE = "results --emotion fear --since 2026-11-24 --csv"
SEVERAL = "default: [database] path; several, such as results-*.json, are shown as one"
TIME = "ISO 8601, UTC if no zone is given"
FOLLOW_EVERY = 0.5  # seconds
EXIT_DAMAGED = 5


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--database", type=Path, metavar="FILE", nargs="+", help=SEVERAL)
    add("--last", type=count, metavar="N", help="only the last N")
    add("--emotion", type=emotion, help="a face reached the threshold for it")
    add("--file", metavar="PATTERN", help="file names such as 'cam1*'")
    add("--since", metavar="TIME", help=TIME)
    add("--until", metavar="TIME", help="up to, not including")
    add("--follow", action="store_true", help="go on with what comes; Ctrl-C ends")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--counts", action="store_true", help="only how many images, faces and emotions")
    add("--json", action="store_true", help="one record a line")
    add("--csv", action="store_true", help="one face a line")
    add("--seed-format", action="store_true", help='{"images": [...]}: name, threshold, faces')
    add("--verify", action="store_true", help="repair and check the file")
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    config = configure(options)
    from worker.database import posting_states, verify
    from worker.database.database import repair
    from worker.terminal import safe, show_table, utf8_output
    from worker.viewing import results

    paths = results.distinct(options.database or [config.database.path])
    if options.verify:
        found = [verify(path) for path in paths]
        print("\n".join(line for each in found for line in each.lines()))
        return 0 if all(each.sound for each in found) else EXIT_DAMAGED
    for path in paths:
        repair(path)
    records = select(options, paths)
    if options.counts:
        rows = [(name, f"{number}") for name, number in results.counts(records).items()]
        show_table("", ("what", "how many"), rows)
    elif options.json:
        utf8_output()
        results.write_json(records, sys.stdout)
    elif options.csv:
        utf8_output()
        results.write_csv(records, sys.stdout)
    elif options.seed_format:
        utf8_output()
        results.write_seed_format(records, sys.stdout)
    elif options.follow:
        for row in results.table_rows(records):
            print("\t".join(map(safe, row)))
    else:
        columns = ("processed", "file", "threshold", "faces", "post")
        posts = {
            task: reason or state for path in paths for task, state, reason in posting_states(path)
        }
        title = ", ".join(map(str, paths))
        show_table(title, columns, results.table_rows(records, posts))
    return 0


def select(options: argparse.Namespace, paths: list[Path]) -> "Iterable[Record]":
    """The records that the flags choose; with --follow also those that are still to come."""
    from worker.database import follow_records
    from worker.viewing import results

    chosen = results.Filter(
        emotion=options.emotion,
        file=options.file,
        since=results.parse_time(options.since) if options.since else None,
        until=results.parse_time(options.until) if options.until else None,
    )
    if not options.follow:
        return results.select(results.read_files(paths), chosen, options.last)
    alarm = new_alarm()

    def wait() -> bool:
        sys.stdout.flush()
        alarm.wait(FOLLOW_EVERY)
        return not alarm.stop_requested

    every = results.checked(follow_records(paths, wait), "what follows")
    records = results.select(every, chosen, None)
    if options.last:  # of those that are there already
        there = sum(1 for _ in results.select(results.read_files(paths), chosen, None))
        return islice(records, max(0, there - options.last), None)
    return records
