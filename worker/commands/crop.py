"""Cut the faces out of images and folders, as training sees them.

example: emotion-worker crop holiday/ --output faces/
"""

import argparse
import sys
from pathlib import Path

from worker.commands.common import add_configuration, configure
from worker.errors import UsageError


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [SOURCE ...] [options]"
    add = parser.add_argument
    words = "images and folders; default: [database] keep_images"
    add("sources", type=Path, nargs="*", metavar="SOURCE", help=words)
    words = "default: faces; may have some"
    add("--output", type=Path, default=Path("faces"), metavar="DIR", help=words)
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    config = configure(options)
    kept = config.database.keep_images
    if not options.sources and not kept:
        raise UsageError("crop: name images or folders, or set [database] keep_images")
    from worker.analysis.sources import find_files
    from worker.terminal import progress_bar, safe
    from worker.training.crop import crop_faces

    found = find_files(options.sources or [kept])
    with progress_bar() as progress:
        sources = progress.track(found.sources, description="cropping")
        done = crop_faces(sources, config, options.output)
    for path, message in done.bad:
        print(f"{safe(path)}: {message}", file=sys.stderr)
    print(
        f"{options.output}: {done.faces} new faces of {done.images} images, "
        f"{done.duplicates} near-duplicates left out, {len(done.bad)} images could not be read, "
        f"{found.passed_over} other files passed over"
    )
    return 1 if done.bad else 0
