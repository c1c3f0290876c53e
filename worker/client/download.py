"""One HTTP request that keeps one deadline and hands out a bounded body, whatever the server does.

A requests session bounds neither: its time-out holds for each read anew, and it reads the whole
body of a redirect, however large, before it hands it over. It also takes passwords, proxies and
certificate authorities from the environment, and keeps cookies. So the requests' transport adapter
is used without one: a token must not pass through a host that worker.ini does not name.
"""

import http.client
import io
import logging
import socket
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url
from urllib3.util.connection import create_connection

from worker.client.image_url import expect_public
from worker.config import ServerConfig
from worker.errors import RetryLater, ServerUnreachable, UsageError
from worker.files import expect_private

CHUNK = 65_536

# At lower levels urllib3 logs what the server sent, uncleaned, and with tracebacks.
logging.getLogger("urllib3").setLevel(logging.ERROR)


@dataclass
class _Exchange:
    """One request and its answer. ``deadline`` is a monotonic time."""

    deadline: float
    ours: bool
    allowed_hosts: Collection[str]
    connected: bool = False  # a connection was opened for it: none was left from before
    heard: bool = False  # the server sent at least one byte

    def time_left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


# How the socket, deep inside urllib3, learns the deadline of the request it works for.
_exchange: ContextVar[_Exchange] = ContextVar("exchange")


class _TimedReader(io.RawIOBase):
    """Reads from a socket and renews its time-out: as it stands, that holds for each read anew."""

    def __init__(self, sock: socket.socket, stream: io.RawIOBase) -> None:
        self._sock = sock
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        exchange = _exchange.get()
        self._sock.settimeout(exchange.time_left())
        count = self._stream.readinto(buffer)
        exchange.heard = exchange.heard or bool(count)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: io.BufferedReader = io.BufferedReader(_TimedReader(sock, self.fp.detach()))


class _TimedHTTPConnection(HTTPConnection):
    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        exchange = _exchange.get()
        exchange.connected = True
        problem: OSError | None = None
        # The look-up itself cannot be interrupted: the resolver's own limits hold for it.
        addresses = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for tried, (*_, address) in enumerate(addresses):
            if not exchange.ours:
                expect_public(str(address[0]), self.port, exchange.allowed_hosts)
            # One dead address of several must not use up the time of the others.
            share = exchange.time_left() / (len(addresses) - tried)
            try:
                sock = create_connection(
                    (str(address[0]), self.port), share, socket_options=self.socket_options
                )
            except OSError as error:
                problem = error
            else:
                sock.settimeout(exchange.time_left())  # the TLS handshake comes next
                return sock
        raise problem or OSError("the host has no address")

    def send(self, data: Any) -> None:
        for start in range(0, len(data), CHUNK):
            if self.sock is not None:
                self.sock.settimeout(_exchange.get().time_left())
            super().send(data[start : start + CHUNK])


class _TimedHTTPSConnection(_TimedHTTPConnection, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _TimedHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TimedHTTPSConnection


class _TimedAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class Answer:
    """What the server answered; its body is read on demand, before the request's ``with`` ends."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        # Bytes by Content-Length, before decompression; None: not said.
        self.declared: int | None = response.length_remaining

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; "" where none is given."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def read(self, limit: int) -> bytes:
        """Read the body, decompressed: ``limit`` bytes, and one more where there are more.

        Raises RetryLater where it is cut short, damaged or not here by the deadline.
        """
        chunks: list[bytes] = []
        size = 0
        try:
            while size <= limit:
                chunk = self._response.read(min(CHUNK, limit + 1 - size), decode_content=True)
                if not chunk:
                    break
                chunks.append(chunk)
                size += len(chunk)
        except (HTTPError, OSError) as error:
            raise RetryLater(f"the answer broke off after {size} bytes: {_why(error)}") from error
        return b"".join(chunks)


class HttpDownload:
    """Sends requests, each within ``server.timeout`` from connecting to the last byte read.

    Connections are kept open between requests. Certificates are always verified: against
    ``ca_file`` alone where one is given, else against the authorities that certifi ships. It and
    ``client_cert`` are read anew for each connection. Raises UsageError where one of them, or the
    URL, cannot be used.
    """

    def __init__(self, server: ServerConfig) -> None:
        self._timeout = server.timeout
        self._allowed_hosts = server.allowed_hosts
        self._authorities = str(server.ca_file or DEFAULT_CA_BUNDLE_PATH)
        # Certificate and key. If no key is named, a password would be asked for at the terminal.
        self._certificate = (str(server.client_cert),) * 2 if server.client_cert else None
        _check_files(self._authorities, server.client_cert)
        try:
            parse_url(server.url)
        except HTTPError as error:
            raise UsageError(f"[server] url = {server.url}: {error}") from error
        self._adapter = _TimedAdapter()

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        ours: bool,
    ) -> Iterator[Answer]:
        """Send one request; no redirect is followed. Only an idempotent one: it may be sent twice.

        ``ours``: it goes to our own server, which sees ``client_cert`` and may have any address.
        Raises ServerUnreachable where no answer comes, ImageLost where a host of others has an
        address that is refused.
        """
        exchange = _Exchange(time.monotonic() + self._timeout, ours, self._allowed_hosts)
        context = _exchange.set(exchange)
        try:
            response = self._send(exchange, method, url, headers, body)
            try:
                yield Answer(response)
                if (response.length_remaining or 0) <= CHUNK:
                    # Only a connection whose answer was read to its end can serve again.
                    with suppress(HTTPError, OSError):
                        response.read(CHUNK, decode_content=True)
            finally:
                response.close()
        finally:
            _exchange.reset(context)

    def _send(
        self,
        exchange: _Exchange,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> urllib3.BaseHTTPResponse:
        certificate = self._certificate if exchange.ours else None
        while True:
            try:
                request = requests.Request(method, url, headers, data=body).prepare()
                response = self._adapter.send(
                    request,
                    timeout=self._timeout,
                    stream=True,
                    verify=self._authorities,
                    cert=certificate,
                )
            except (HTTPError, OSError, UnicodeError) as error:
                # The server may close an idle connection at the moment it is used again.
                stale = not isinstance(error, requests.Timeout) and not exchange.connected
                if not stale or exchange.heard:
                    raise ServerUnreachable(f"{_origin(url)}: {_why(error)}") from error
            else:
                answered: urllib3.BaseHTTPResponse = response.raw
                return answered

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._adapter.close()


def _check_files(authorities: str, certificate: Path | None) -> None:
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise UsageError(f"[server] ca_file: cannot use {authorities}: {error}") from error
    if certificate is None:
        return
    source = f"[server] client_cert {certificate}"
    try:
        expect_private(certificate.stat(), source, certificate)
        context.load_cert_chain(certificate, password="")
    except ssl.SSLError as error:  # its words would explain nothing
        raise UsageError(
            f"{source}: must hold a certificate and its key, unencrypted PEM"
        ) from error
    except OSError as error:
        raise UsageError(f"{source}: cannot be read: {error.strerror}") from error


def _origin(url: str) -> str:
    parts = parse_url(url)
    return f"{parts.scheme}://{parts.netloc}"


def _why(error: BaseException) -> str:
    """Say what happened, without a word of the server's."""
    while error.__context__ is not None:
        error = error.__context__
    if isinstance(error, TimeoutError):
        return "it took too long; [server] timeout says how long is allowed"
    if isinstance(error, urllib3.exceptions.SSLError):  # a certificate of ours with a password
        return f"TLS: {error}; look at [server] client_cert"
    if isinstance(error, ssl.SSLError):
        cause = getattr(error, "verify_message", None) or error.reason or "broken off"
        return f"TLS: {cause}; look at [server] url, ca_file and client_cert"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"what came back is not sound HTTP ({type(error).__name__})"
