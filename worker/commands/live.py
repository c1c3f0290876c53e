"""A camera or a video in real time: in a window, a file or a page.

example: emotion-worker live --source 0 --serve 127.0.0.1:8080
"""

import argparse
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

from worker.commands.common import add_configuration, configure, new_alarm
from worker.errors import ImageLost, Stop, UsageError
from worker.hints import address, fraction, host_and_port


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--source", default="0", help="camera number, file or URL; default: 0")
    add("--threshold", type=fraction, default=0.5, help="0 to 1; default: 0.5")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--output", type=Path, metavar="FILE", help="write it as FILE.mp4 instead")
    words = "show it on a page instead (MJPEG)"
    add("--serve", type=address, metavar="HOST:PORT", help=words)
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    alarm, config = new_alarm(), configure(options)
    from worker.analysis.pipeline import Pipeline
    from worker.viewing import live
    from worker.viewing.video import Video, VideoFile

    text: str = options.source
    source = text if text.isdecimal() or "://" in text else Path(text)
    if isinstance(source, Path) and not source.is_file():
        raise UsageError(f"--source {text}: there is no such file (a camera has a number: 0)")
    if options.output and options.output.resolve() == Path(text).resolve():
        raise UsageError(f"--output {text} is the source; name another file")
    begun, shown, emotions = time.monotonic(), 0, Counter[str]()
    try:
        with ExitStack() as stack:
            video = stack.enter_context(Video(source, config.server.max_image_pixels))
            if options.output:
                show: live.Show = stack.enter_context(VideoFile(options.output, video.rate)).write
            elif options.serve:
                show = stack.enter_context(live.show_on_page(*host_and_port(options.serve)))
            else:
                show = live.open_window()
            find_faces, hurry = Pipeline(config).find_faces, bool(options.output)
            frames = live.play(video, find_faces, options.threshold, hurry=hurry)
            for picture, faces in stack.enter_context(closing(frames)):
                shown += 1
                for face in faces:
                    emotions[max(face.probabilities, key=face.probabilities.__getitem__)] += 1
                if show(picture) is False or alarm.stop_requested:
                    break
    except ImageLost as lost:
        raise Stop(f"--source {text}: {lost}") from lost
    print(live.summary(shown, time.monotonic() - begun, emotions))
    return 0
