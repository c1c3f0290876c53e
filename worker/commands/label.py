"""A page on loopback to name the emotions of cropped faces.

example: emotion-worker label faces/ --port 5001
"""

import argparse
from pathlib import Path

from worker.commands.common import new_alarm
from worker.hints import port


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s DIR [options]"
    parser.add_argument("folder", type=Path, metavar="DIR", help="what `crop` wrote")
    parser.add_argument("--port", type=port, default=5001, help="0: a free one; default: 5001")


def run(options: argparse.Namespace) -> int:
    alarm = new_alarm()
    from worker.terminal import show_table
    from worker.training.agreement import agreement_rows
    from worker.training.label import create_app, open_ballot
    from worker.web import WebServer

    with open_ballot(options.folder) as ballot:
        with WebServer(create_app(ballot), port=options.port) as server:
            print(f"label faces on {server.url}; stop with Ctrl-C", flush=True)
            while not alarm.stop_requested:
                alarm.wait(3600)
        show_table(("who", "faces", "kappa"), agreement_rows(ballot.votes()))
    return 0
