"""Drain what is there, try each owed post once, exit (for cron).

example: emotion-worker once --url http://127.0.0.1:5000
"""

import argparse
import sys

from worker.commands.common import add_configuration, configure, new_alarm


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser, http=True)


def run(options: argparse.Namespace) -> int:
    alarm, config = new_alarm(), configure(options)
    from worker.analysis import Analysts

    with Analysts(config) as analysts:
        from worker.daemon.scheduler import run_once

        owed = run_once(config, alarm, analysts)
    if owed:
        print(f"{owed} results are still to post", file=sys.stderr)
    return 1 if owed else 0
