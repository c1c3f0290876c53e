"""One request, which keeps one deadline, and its answer, whose body is bounded.

A requests session bounds neither, and reads the whole body of a redirect, however large, before it
hands it over. It also takes passwords, proxies and certificate authorities from the environment,
and keeps cookies. So the requests' transport adapter is used without one: a token must not pass
through a host that worker.ini does not name.
"""

import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import requests
import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util import Timeout, parse_url

from worker import __version__
from worker.client.answers import MAX_QUOTED, MAX_TEXT, parse_retry_after
from worker.client.bearer_token import BearerToken
from worker.client.connection import TimedAdapter
from worker.config import ServerConfig
from worker.errors import (
    RetryLater,
    ServerBusy,
    ServerRefuses,
    ServerUnreachable,
    UsageError,
    WorkerError,
)
from worker.files import expect_private

Headers = Mapping[str, str]

CHUNK = 65_536

FOR_ANYONE = {"User-Agent": f"emotion-worker/{__version__}", "Accept-Encoding": "gzip, deflate"}

# At lower levels urllib3 logs what the server sent, uncleaned, and with tracebacks.
logging.getLogger("urllib3").setLevel(logging.ERROR)


class Answer:
    """What a server answered; its body is read on demand, before the request's ``with`` ends.

    ``hide`` takes our token out of a text. ``declared``: bytes by Content-Length, before
    decompression; 0: not said.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, hide: Callable[[str], str]) -> None:
        self._response = response
        self._hide = hide
        self.status = response.status
        self.headers: Headers = response.headers
        self.declared = response.length_remaining or 0

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; "" if none is given."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def may_pass(self) -> bool:
        """Whether waiting helps; otherwise the request itself is refused or sent elsewhere."""
        return self.status in (408, 425, 429) or not 300 <= self.status < 500

    def read(self, limit: int) -> bytes:
        """Read the body, decompressed: ``limit`` bytes, and one more if there are more.

        Raises RetryLater when it is cut short, damaged or not here by the deadline.
        """
        body = bytearray()
        with _blamed_on_the_server(RetryLater, "the answer broke off"):
            while len(body) <= limit:
                size = min(CHUNK, limit + 1 - len(body))
                chunk = self._response.read(size, decode_content=True)
                if not chunk:
                    break
                body += chunk
        return bytes(body)

    def expect_ok(self, what: str, key: str) -> None:
        """Raise RetryLater for any status but 200, or ServerRefuses, which names the key to mend.

        ``what`` was asked for.
        """
        if self.status == 200:
            return
        message = f"{what}: the server answered with status {self.status}{self.reason()}"
        if self.may_pass:
            kind = ServerBusy if self.status in (429, 503) else RetryLater
            raise kind(message, wait=parse_retry_after(self.headers.get("Retry-After")))
        if self.status < 400:
            location = self.quote(self.headers.get("Location", ""))
            message, key = f"{message}, a redirect to {location} that is not followed", "url"
        elif self.status in (401, 403):
            key = "token_file"
        raise ServerRefuses(f"{message}; look at [server] {key}", status=self.status)

    def reason(self) -> str:
        """What the answer says about its status, for the end of a message; "" if nothing."""
        # A proxy's HTML page would explain nothing in a log line.
        if self.content_type in ("text/plain", "application/json"):
            with suppress(RetryLater):
                return f" ({self.quote(self.read(MAX_TEXT).decode('utf-8', 'replace'))})"
        return ""

    def quote(self, text: str) -> str:
        """The server's words for a message of ours."""
        return repr(self._hide(text[:MAX_TEXT])[:MAX_QUOTED])


class Transport:
    """Sends requests, each within ``server.timeout`` from connecting to the last byte read.

    Connections are kept open between requests. Certificates are always verified: against
    ``ca_file`` alone if one is given, else against the authorities that certifi ships. It and
    ``client_cert`` are read anew for each connection. Raises UsageError when one of them, the
    token or the URL cannot be used.
    """

    def __init__(self, server: ServerConfig, worker_id: str) -> None:
        self._timeout = server.timeout
        self._worker_id = worker_id
        self._token = BearerToken(server)
        self._authorities = str(server.ca_file or DEFAULT_CA_BUNDLE_PATH)
        self._certificate = str(server.client_cert) if server.client_cert else None
        _check_files(self._authorities, server.client_cert)
        try:
            parse_url(server.url)
        except ValueError as error:
            raise UsageError(f"[server] url = {server.url}: {error}") from error
        self._to_our_server = TimedAdapter(None)
        self._to_others = TimedAdapter(server.allowed_hosts)
        self.hide = self._token.hide

    @contextmanager
    def request(
        self, method: str, url: str, headers: Headers, body: bytes | None = None, ours: bool = True
    ) -> Iterator[Answer]:
        """Send one request; no redirect is followed. Only an idempotent one: it may be sent twice.

        ``ours``: it goes to our own server, which alone sees what names us, and may have any
        address. Raises ServerUnreachable when no answer comes, ImageLost when a host of others has
        an address that is refused.
        """
        adapter, certificate, names = self._to_others, None, {}
        if ours:
            adapter, names = self._to_our_server, {"X-Worker-Id": self._worker_id}
            names |= self._token.headers()
            if self._certificate:
                # Its key is in the same file. If none were named, a password would be asked for.
                certificate = (self._certificate, self._certificate)
        with _blamed_on_the_server(ServerUnreachable, _origin(url)):
            request = requests.Request(method, url, FOR_ANYONE | names | dict(headers), data=body)
            response: urllib3.BaseHTTPResponse = adapter.send(
                request.prepare(),
                stream=True,
                timeout=Timeout(total=self._timeout),  # type: ignore[arg-type]
                verify=self._authorities,
                cert=certificate,
            ).raw
        answer = Answer(response, self.hide)
        if ours and answer.status in (401, 403):
            self._token.read_again()
        try:
            yield answer
            if (response.length_remaining or 0) <= CHUNK:
                # Only a connection whose answer was read to its end can serve again.
                with suppress(RetryLater):
                    answer.read(CHUNK)
        finally:
            response.close()

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._to_our_server.close()
        self._to_others.close()


@contextmanager
def _blamed_on_the_server(kind: type[RetryLater], what: str) -> Iterator[None]:
    """Whatever goes wrong in requests, urllib3 or the standard library is the server's fault."""
    try:
        yield
    except WorkerError:
        raise
    except Exception as error:
        raise kind(f"{what}: {_why(error)}") from error


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
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
        if isinstance(error, ssl.SSLError):  # its words would explain nothing
            why = "must hold a certificate and its key, unencrypted PEM"
        raise UsageError(f"{source}: {why}") from error


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
