"""The whole daemon in a thread of the test's process."""

import threading
from collections.abc import Callable

from tests.daemon.played import until
from tests.shared_analysts import shared_analysts
from worker.analysis import Analysts
from worker.config import Config
from worker.daemon.alarm import Alarm
from worker.daemon.scheduler import run


class Daemon:
    """`run` in a thread, stopped at the end of a ``with``; what ended it before is raised there."""

    def __init__(
        self,
        config: Config,
        analysts: Analysts | None = None,
        read_again: Callable[[], Config] | None = None,
    ) -> None:
        self.alarm = Alarm()
        self._analysts = analysts or shared_analysts()
        self._read_again = read_again
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(config,))

    def _run(self, config: Config) -> None:
        try:
            run(config, self.alarm, self._analysts, self._read_again)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._problem = error

    def __enter__(self) -> "Daemon":
        self._thread.start()
        return self

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for what the daemon brings about."""
        until(lambda: self._problem or condition())
        if self._problem:
            raise self._problem

    def __exit__(self, *_: object) -> None:
        self.alarm.stop()
        self._thread.join()
        if self._problem:
            raise self._problem
