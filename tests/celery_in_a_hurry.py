"""The Celery app with times that suit a test."""

from worker import celery_app
from worker.celery_app import app

__all__ = ["app"]

celery_app.LONGEST_WAIT = 0
app.conf.broker_transport_options |= {"visibility_timeout": 3, "unacked_restore_interval": 1}
