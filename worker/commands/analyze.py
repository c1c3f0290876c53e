"""`analyze`: files instead of a server."""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path

from worker.commands.common import EXIT_FAILED, add_configuration, configure, fraction, seconds

HELP = "images, videos and folders of them, without a server: what is on them"
EXAMPLE = "analyze holiday/ clip.mp4 --every 0.5s --annotated drawn/ --threshold 0.4"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [options] PATH ..."
    words = "images, videos, folders"
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help=words)
    parser.add_argument("--threshold", type=fraction, default=0.5, help="0 to 1; default: 0.5")
    words = "seconds of a video for one record; default: 0.5"
    parser.add_argument("--every", type=seconds, default=0.5, help=words)
    words = "copies with the faces drawn in"
    parser.add_argument("--annotated", type=Path, metavar="DIR", help=words)
    words = "append the records to it"
    parser.add_argument("--database", type=Path, metavar="FILE", help=words)
    parser.add_argument("--json", action="store_true", help="one record a line")
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    config = configure(options)
    from worker.terminal import progress_bar, show_table, utf8_output
    from worker.viewing.analyze import analyze_files, expected_records, find_files
    from worker.viewing.results import table_rows

    sources = find_files(options.paths, videos=True)
    total = sum(expected_records(source, config, options.every) for source in sources)
    records = []
    if options.json:
        utf8_output()
    with ExitStack() as stack:
        database = None
        if options.database:
            from worker.database.database import Database

            database = stack.enter_context(Database(options.database))
        progress = stack.enter_context(progress_bar())
        task = progress.add_task("analysing", total=total)
        flags = (options.threshold, options.annotated, options.every)
        for record in analyze_files(sources, config, *flags):
            if database is not None:
                database.append(record)
            if options.json:
                print(json.dumps(record, ensure_ascii=False), flush=True)
            records.append(record)
            progress.advance(task)
    if not options.json:
        rows = [row[1:] for row in table_rows(records)]
        show_table("", ("file", "threshold", "faces"), rows)
    failed = sum("error" in record for record in records)
    if failed:
        print(f"{failed} of {len(records)} could not be analysed", file=sys.stderr)
    return EXIT_FAILED if failed else 0
