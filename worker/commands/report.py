"""The JSON file, or several, as one HTML page with plots, which needs no network.

example: emotion-worker report --since 2026-11-24 --output report.html
"""

import argparse
from pathlib import Path

from worker.commands.common import add_configuration, configure
from worker.commands.results import add_filters, find_files, new_filter


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_filters(parser)
    words, default = "default: report.html", Path("report.html")
    parser.add_argument("--output", type=Path, default=default, metavar="FILE", help=words)
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    config = configure(options)
    from worker.files import replace_file
    from worker.record import utc_now
    from worker.terminal import safe
    from worker.viewing.report import render
    from worker.viewing.results import read_files
    from worker.viewing.totals import count_records

    chosen, paths = new_filter(options), find_files(options, config.database.path)
    if not paths:
        return 0
    totals = count_records(chosen.narrow(chosen.select(read_files(paths))))
    small = {}
    if config.database.keep_images:
        from worker.viewing.thumbnails import thumbnails  # loads OpenCV

        small = thumbnails(totals.latest, config.database.keep_images)
    title = ", ".join(path.name for path in paths)
    replace_file(options.output, render(totals, title, f"made {utc_now()}{chosen.words()}", small))
    images, faces = totals.images.total(), totals.faces.total()
    print(f"{safe(options.output)}: {images} images, {faces} faces")
    return 0
