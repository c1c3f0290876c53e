"""`python -m worker`: the same program as `emotion-worker` and `python run_worker.py`."""

import sys

from worker.cli import main


def run() -> None:
    """End this process with the exit code of the command that its arguments name."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
