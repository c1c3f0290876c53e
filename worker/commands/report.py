"""`report`: the JSON file as a page with plots."""

import argparse
from pathlib import Path

from worker.commands.common import add_configuration, configure
from worker.commands.results import SEVERAL, TIME

HELP = "the JSON file, or several, as one HTML page with plots, which needs no network"
EXAMPLE = "report --since 2026-11-24 --output report.html"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--database", type=Path, metavar="FILE", nargs="+", help=SEVERAL)
    add("--since", metavar="TIME", help=TIME)
    words = "default: report.html"
    add("--output", type=Path, default=Path("report.html"), metavar="FILE", help=words)
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    config = configure(options)
    from worker.database.database import repair
    from worker.files import replace_file
    from worker.record import utc_now
    from worker.viewing.report import count_records, render
    from worker.viewing.results import Filter, distinct, parse_time, read_files, select

    paths = distinct(options.database or [config.database.path])
    since = parse_time(options.since) if options.since else None
    for path in paths:
        repair(path)
    totals = count_records(select(read_files(paths), Filter(since=since), None))
    made = f"made {utc_now()}" + (f", records since {since.isoformat()}" if since else "")
    small = {}
    if config.database.keep_images:
        from worker.viewing.thumbnails import thumbnails  # loads OpenCV

        small = thumbnails(totals.latest, config.database.keep_images)
    title = ", ".join(path.name for path in paths)
    replace_file(options.output, render(totals, title, made, small))
    print(f"{options.output}: {totals.images} images, {totals.faces} faces")
    return 0
