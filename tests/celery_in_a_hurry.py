"""The Celery app with times that suit a test."""

from worker.celery_app import app

__all__ = ["app"]

app.conf.broker_transport_options |= {"visibility_timeout": 3, "unacked_restore_interval": 1}
