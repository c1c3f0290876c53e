"""Images, videos and folders of them, without a server: what is on them.

example: emotion-worker analyze holiday/ clip.mp4 --every 0.5s --annotated drawn/ --threshold 0.4
"""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from worker.commands.common import add_configuration, configure
from worker.hints import fraction, number


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s PATH ... [options]"
    add = parser.add_argument
    add("paths", type=Path, nargs="+", metavar="PATH", help="images, videos, folders")
    add("--threshold", type=fraction, default=0.5, help="0 to 1; default: 0.5")
    words = "seconds of a video for one record; default: 0.5"
    add("--every", type=seconds, default=0.5, metavar="SECONDS", help=words)
    add("--annotated", type=Path, metavar="DIR", help="copies with the faces drawn in")
    add("--database", type=Path, metavar="FILE", help="append the records to it")
    add("--json", action="store_true", help="one record a line")
    add_configuration(parser)


def seconds(text: str) -> Any:
    """A time with or without the s."""
    return number(float, 0.001, 86_400, " seconds")(text.removesuffix("s"))


def run(options: argparse.Namespace) -> int:
    config = configure(options)
    from worker.analysis.sources import find_files, is_video
    from worker.database import Database
    from worker.terminal import progress_bar, utf8_output
    from worker.viewing.analyze import analyze_files
    from worker.viewing.formats import json_line
    from worker.viewing.table import print_records

    if options.json:
        utf8_output()
    found, records = find_files(options.paths, videos=True), []
    frames = any(is_video(source.path) for source in found.sources)  # nobody knows how many
    total = None if frames else len(found.sources)
    flags = (options.threshold, options.annotated, options.every)
    analyzed = analyze_files(found.sources, config, *flags)
    with (
        Database(options.database) if options.database else nullcontext() as into,
        progress_bar() as progress,
    ):
        for record in progress.track(analyzed, total=total, description="analysing"):
            if into:
                into.append(record)
            if options.json:
                print(json_line(record), flush=True)
            records.append(record)
    if not options.json:
        print_records(records)
    if found.passed_over:
        print(f"passed over: {found.passed_over} files that are no images", file=sys.stderr)
    failed = sum("error" in record for record in records)
    if failed:
        print(f"{failed} of {len(records)} could not be analysed", file=sys.stderr)
    return 1 if failed else 0
