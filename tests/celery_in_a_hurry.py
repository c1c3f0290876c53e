"""The Celery app with times that suit a test, and an image that kills whoever analyses it."""

import os
import signal

from worker import celery_app
from worker.analysis.pipeline import Pipeline
from worker.celery_app import app
from worker.record import Analysis

POISON = b"this image kills the process"

celery_app.LONGEST_WAIT = 0
app.conf.broker_transport_options |= {"visibility_timeout": 3, "unacked_restore_interval": 1}

_analyze = Pipeline.analyze


def _fatal(self: Pipeline, content: bytes) -> Analysis:
    if content == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    return _analyze(self, content)


Pipeline.analyze = _fatal  # type: ignore[method-assign]
