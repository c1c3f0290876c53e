"""The daemon: it polls the server on a schedule, has each image analysed and recorded, posts the
results, waits after faults, and stops gracefully.

`worker.daemon.scheduler` (`run`, `run_once`) and `worker.daemon.metrics` (`Metrics`, `serve`) load
HTTP, APScheduler and the Prometheus client: they are imported by the command that needs them.
"""

from worker.daemon.alarm import Alarm

__all__ = ["Alarm"]
