"""The entry point of a checkout: `python run_worker.py [command]`; `--help` lists the commands."""

from worker.__main__ import run

if __name__ == "__main__":
    run()
