"""What every page of ours stands on: one server for any WSGI app, and a guard against other pages.

A page from elsewhere can send requests to this machine, under a name of its own that it lets point
here (DNS rebinding) or as itself. Both show in headers that no page can change: Host; Origin and
Sec-Fetch-Site. Nothing here needs Flask.
"""

import logging
import socket
from collections.abc import Collection, Iterable
from ipaddress import ip_address
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from waitress import create_server, wasyncore

from worker.errors import UsageError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LOOPBACK = "127.0.0.1"
MAX_CONNECTIONS = 1000  # also half a request counts
MAX_BODY = 64_000_000  # bytes; an app may take less
# Bytes that wait for a slow reader before the app has to: of a live picture, old frames.
MAX_UNSENT = 500_000


def guard(
    app: "WSGIApplication", policy: str, *, host: str = LOOPBACK, exempt: Collection[str] = ()
) -> "WSGIApplication":
    """The app, which other pages can neither use nor embed any more: 403 for their requests.

    ``policy``: its Content-Security-Policy. ``host``: where it listens, as the user wrote it; it
    answers under this name, `localhost` and addresses, which nobody can rebind. ``exempt``: paths
    that answer under any name, for programs.
    """
    own = {
        "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }

    def guarded(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] not in exempt and (refusal := _refusal(environ, host)):
            start_response("403 Forbidden", [("Content-Type", "text/plain"), *own.items()])
            return [refusal.encode()]

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            kept = [(name, value) for name, value in headers if name.title() not in own]
            return start_response(status, [*kept, *own.items()], *error)

        return app(environ, start)

    return guarded


def _refusal(environ: "WSGIEnvironment", host: str) -> str | None:
    """Why a request is none of our own page or of a program on this machine; None if it is one."""
    given = environ.get("HTTP_HOST", "")
    if not _is_our_name(given, host):
        return f"open this page as http://{LOOPBACK}:{environ['SERVER_PORT']}\n"
    same_origin = environ.get("HTTP_ORIGIN", f"http://{given}") == f"http://{given}"
    if not same_origin or environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
        return "this request comes from another page; type the address of this one\n"
    return None


def _is_our_name(given: str, host: str) -> bool:
    try:
        name = urlsplit(f"//{given}").hostname or ""
        return name in ("localhost", host.lower()) or bool(ip_address(name))
    except ValueError:  # neither a name of ours nor an address
        return False


class WebServer:
    """Serves an app from threads of its own between ``with`` and its end; ``url`` says where.

    ``port`` 0 takes a free one. ``threads``: how many requests are answered at once; those that
    are not complete need none. Raises UsageError when it cannot listen there.
    """

    def __init__(
        self, app: "WSGIApplication", *, host: str = LOOPBACK, port: int = 0, threads: int = 8
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=128)
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot listen on {host}, port {port}: {error}") from error
        # It would warn when a request has to wait for a thread.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._map: dict[int, Any] = {}
        self._server = create_server(
            app,
            map=self._map,
            sockets=[listener],
            threads=threads,
            ident=None,
            connection_limit=MAX_CONNECTIONS,
            channel_timeout=60,
            max_request_body_size=MAX_BODY,
            outbuf_high_watermark=MAX_UNSENT,
            log_socket_errors=False,
        )
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        self._ended = Event()
        self._thread = Thread(target=self._serve, name="web", daemon=True)

    def _serve(self) -> None:
        while not self._ended.is_set():
            wasyncore.loop(timeout=1, use_poll=True, map=self._map, count=1)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.trigger.pull_trigger(self._ended.set)  # called in the server's thread
        self._thread.join()
        for channel in list(self._server.active_channels.values()):
            channel.handle_close()  # wakes a thread that waits for a slow reader
        self._server.task_dispatcher.shutdown()
        wasyncore.close_all(self._map)
