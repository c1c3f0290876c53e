"""Analysts for the tests that run a daemon in their own process: to start some takes seconds."""

from functools import cache

from worker.analysis import Analysts
from worker.config import Config, WorkerConfig


@cache
def shared_analysts() -> Analysts:
    """Two, with the default configuration; they end with this process."""
    return Analysts(Config(worker=WorkerConfig(parallel=2)))
