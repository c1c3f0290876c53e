"""A camera or a video in real time: in a window, a file or a page.

example: emotion-worker live --source 0 --serve 127.0.0.1:8080
"""

import argparse
from contextlib import closing
from pathlib import Path

from worker.commands.common import add_configuration, configure, fraction, new_alarm, port
from worker.errors import UsageError


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--source", default="0", help="camera number, file or URL; default: 0")
    add("--threshold", type=fraction, default=0.5, help="0 to 1; default: 0.5")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--output", type=Path, metavar="FILE", help="write it as FILE.mp4 instead")
    words = "show it on a page instead (MJPEG)"
    add("--serve", type=address, metavar="HOST:PORT", help=words)
    add_configuration(parser)


def address(text: str) -> tuple[str, int]:
    """Host and port; a port alone is on loopback."""
    host, _, number = text.rpartition(":")
    return host or "127.0.0.1", port(number)


def run(options: argparse.Namespace) -> int:
    alarm, config = new_alarm(), configure(options)
    from worker.analysis.pipeline import Pipeline
    from worker.viewing import live

    output: Path | None = options.output
    if output and output.resolve() == Path(options.source).resolve():
        raise UsageError(f"--output {output} is the source; name another file")
    with live.open_source(options.source, config.server.max_image_pixels) as video:
        if output:
            sink = live.show_in_file(output, video.rate)
        elif options.serve:
            sink = live.show_on_page(*options.serve)
        else:
            sink = live.show_in_window()
        find_faces, tally = Pipeline(config).find_faces, live.Tally()
        hurry = output is not None
        with (
            sink as show,
            closing(live.play(video, find_faces, options.threshold, hurry=hurry)) as frames,
        ):
            for picture, faces in frames:
                tally.add(faces)
                if not show(picture) or alarm.stop_requested:
                    break
    print(tally.text())
    return 0
