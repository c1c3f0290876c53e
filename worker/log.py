"""The log on standard error: one line an event, as text or as one JSON object."""

import json
import logging
import sys

from worker.config import LogConfig
from worker.record import utc_now
from worker.terminal import safe


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{utc_now()} {record.levelname:<7} {safe(record.getMessage())}"
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else ()
        return "\n  ".join((line, *map(safe, trace)))  # indented: no line of it is a log line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": utc_now(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)  # which escapes whatever is no printable ASCII


def configure_logging(config: LogConfig) -> None:
    """Send the package's log to standard error at the configured level and in its format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if config.format == "json" else _TextFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("worker").setLevel(config.level)
