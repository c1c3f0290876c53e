"""The daemon's words to systemd (sd_notify), where it was started as a unit of Type=notify."""

import math
import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Send ``state``, such as READY=1, to $NOTIFY_SOCKET; without one, nothing happens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(1)  # a manager that does not read must not hold up the work
        sender.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)


def alive() -> None:
    """Feed the watchdog."""
    notify("WATCHDOG=1")


def watchdog_seconds() -> float:
    """How often at least the watchdog must be fed; infinite where there is none."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if for_us and microseconds.isdecimal() else math.inf
