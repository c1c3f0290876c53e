"""Run the daemon in the foreground (the default command).

example: emotion-worker run --url http://127.0.0.1:5000 --interval 5
"""

import argparse

from worker.commands.common import add_configuration, configure, load, new_alarm


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser, http=True)


def run(options: argparse.Namespace) -> int:
    alarm, config = new_alarm(hangup=True), configure(options)
    from worker.analysis import Analysts

    with Analysts(config) as analysts:  # it loads while the rest is imported
        from worker.daemon.scheduler import run

        run(config, alarm, analysts, lambda: load(options))
    return 0
