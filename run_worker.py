"""The entry point: `python run_worker.py [command]`; `--help` lists the commands."""

import sys

from worker.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
