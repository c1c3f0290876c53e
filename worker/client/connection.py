"""Connections on which one deadline holds for a whole request, and where they may lead.

As urllib3 has it, a time-out holds for each read anew: a server that drips its bytes would hold a
request for ever.
"""

import http.client
import socket
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, HTTPConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse
from urllib3.util.connection import create_connection

from worker.client.image_url import expect_public

TLS_RECORD = 16_384  # bytes; so much is sent within one time-out of an encrypted socket


class _TimedResponse(http.client.HTTPResponse):
    """Before each read from the socket, ``time_left`` gives it its time-out in seconds."""

    def __init__(self, time_left: Callable[[], float], sock: socket.socket, **kwargs: Any) -> None:
        super().__init__(sock, **kwargs)
        stream = self.fp.raw
        read = stream.readinto

        def timed_read(buffer: memoryview) -> int | None:
            sock.settimeout(time_left())
            return read(buffer)

        stream.readinto = timed_read  # type: ignore[method-assign]

    def begin(self) -> None:
        super().begin()
        while 100 <= self.status < 200:  # an interim answer: the real one follows
            self.headers = None  # type: ignore[assignment]
            super().begin()


class _TimedConnection(HTTPConnection):
    """A connection whose ``timeout``, set by urllib3 for each request, is the time for all of it.

    ``allowed_hosts``: those that may have a private address; None: all may, for our own server.
    Only what is idempotent can be sent: on a connection that was closed meanwhile it is sent again.
    """

    def __init__(self, allowed_hosts: Collection[str] | None, *args: Any, **kwargs: Any) -> None:
        self._allowed_hosts = allowed_hosts
        super().__init__(*args, **kwargs)
        self.response_class = partial(  # type: ignore[assignment]
            _TimedResponse, lambda: self.timeout
        )

    @property
    def timeout(self) -> float:
        """Seconds left for the request. Raises TimeoutError when there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._deadline = time.monotonic() + (seconds or 0)

    def _new_conn(self) -> socket.socket:
        self._answered_before = False
        problem = OSError("the host has no address")
        # The look-up itself cannot be interrupted: the resolver's own limits hold for it.
        addresses = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for tried, (*_, address) in enumerate(addresses):
            host = str(address[0])
            if self._allowed_hosts is not None:
                expect_public(host, self.port, self._allowed_hosts)
            # One dead address of several must not use up the time of the others.
            share = self.timeout / (len(addresses) - tried)
            try:
                sock = create_connection((host, self.port), share, None, self.socket_options)
            except OSError as error:
                problem = error
            else:
                sock.settimeout(self.timeout)  # for the TLS handshake
                return sock
        raise problem

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._send_again = partial(super().request, *args, **kwargs)
        self._send_again()

    def send(self, data: Any) -> None:
        for start in range(0, len(data), TLS_RECORD):
            if self.sock is not None:
                self.sock.settimeout(self.timeout)
            super().send(data[start : start + TLS_RECORD])

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        try:
            response = super().getresponse()
        except ConnectionError:
            if not self._answered_before:
                raise
            # The server may close an idle connection at the moment it is used again.
            self.close()
            self._send_again()
            response = super().getresponse()
        self._answered_before = True
        return response


class _TimedTlsConnection(_TimedConnection, HTTPSConnection):
    """The same inside TLS."""


class TimedAdapter(HTTPAdapter):
    """Requests' transport over such connections, which are kept open between requests.

    ``allowed_hosts``: those that may have a private address; None: all may, for our own server.
    """

    def __init__(self, allowed_hosts: Collection[str] | None) -> None:
        super().__init__()
        self._allowed_hosts = allowed_hosts

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        """The pool of connections to the request's host."""
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        assert isinstance(pool, HTTPConnectionPool)
        kind = _TimedTlsConnection if pool.scheme == "https" else _TimedConnection
        pool.ConnectionCls = partial(kind, self._allowed_hosts)  # type: ignore[assignment]
        return pool

    def build_response(
        self, req: requests.PreparedRequest, resp: BaseHTTPResponse
    ) -> requests.Response:
        """The raw answer alone. Cookies are not kept, and odd ones would print a traceback."""
        response = requests.Response()
        response.raw = resp
        return response
