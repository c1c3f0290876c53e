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

import requests
import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util import Retry, Timeout, parse_url

from worker import __version__
from worker.client.answers import MAX_QUOTED, MAX_TEXT
from worker.client.bearer_token import hide_token, read_token
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

# What object stores and frameworks call an image when nobody told them its type.
UNTYPED = {
    *("application/octet-stream", "application/x-octet-stream", "application/octetstream"),
    *("binary/octet-stream", "application/binary", "application/x-binary"),
    *("application/x-download", "application/download", "application/force-download"),
}

FOR_ANYONE = {"User-Agent": f"emotion-worker/{__version__}", "Accept-Encoding": "gzip, deflate"}

logger = logging.getLogger(__name__)
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
        # The media type in lower case, without parameters; "" if none is given.
        self.content_type = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self.is_image = self.content_type.startswith("image/") or self.content_type in UNTYPED

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
            while chunk := self._response.read(min(CHUNK, limit + 1 - len(body)), True):
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
            kind, wait = ServerBusy if self.status in (429, 503) else RetryLater, None
            with suppress(Exception):  # nor is a date that cannot be read a reason to fail
                wait = Retry().get_retry_after(self._response)
            raise kind(message, wait=wait)
        if self.status < 400:
            location = self.quote(self.headers.get("Location", ""))
            message, key = f"{message}, a redirect to {location} that is not followed", "url"
        elif self.status in (401, 403):
            key = "token_file"
        raise ServerRefuses(f"{message}; look at [server] {key}", status=self.status)

    def expect_image(self) -> None:
        """Raise RetryLater for a content type that is none of an image."""
        if not self.is_image:
            kind = self.quote(self.content_type or "of no type")
            raise RetryLater(
                f"image: the answer is {kind} and no image: a proxy's page? look at [server] url"
            )

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
        self._server = server
        self._worker_id = worker_id
        self._token = read_token(server)
        self._authorities = str(server.ca_file or DEFAULT_CA_BUNDLE_PATH)
        self._certificate = str(server.client_cert) if server.client_cert else None
        _check(server, self._authorities)
        self._to_our_server = TimedAdapter(None)
        self._to_others = TimedAdapter(server.allowed_hosts)

    def hide(self, text: str) -> str:
        """The visible text, or *** if it holds our token."""
        return hide_token(text, self._token)

    @contextmanager
    def request(
        self, method: str, url: str, headers: Headers, body: bytes | None = None, ours: bool = True
    ) -> Iterator[Answer]:
        """Send one request; no redirect is followed. Only an idempotent one: it may be sent twice.

        ``ours``: it goes to our own server, which alone sees what names us, and may have any
        address. Raises ServerUnreachable when no answer comes, ImageLost when a host of others has
        an address that is refused.
        """
        adapter, certificate, names = self._to_others, None, FOR_ANYONE
        if ours:
            adapter, names = self._to_our_server, names | {"X-Worker-Id": self._worker_id}
            if self._token:
                names["Authorization"] = f"Bearer {self._token}"
            if self._certificate:
                # Its key is in the same file. If none were named, a password would be asked for.
                certificate = (self._certificate, self._certificate)
        target = parse_url(url)
        with _blamed_on_the_server(ServerUnreachable, f"{target.scheme}://{target.netloc}"):
            request = requests.Request(method, url, {**names, **headers}, data=body)
            response: urllib3.BaseHTTPResponse = adapter.send(
                request.prepare(),
                stream=True,
                timeout=Timeout(total=self._server.timeout),  # type: ignore[arg-type]
                verify=self._authorities,
                cert=certificate,
            ).raw
        answer = Answer(response, self.hide)
        if ours and answer.status in (401, 403):
            try:
                self._token = read_token(self._server)
            except UsageError as error:
                # The file may just be being replaced: that must not end the daemon.
                logger.warning("%s; the old token stays in use", error)
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


def _check(server: ServerConfig, authorities: str) -> None:
    """Raise UsageError, which names the key, for a URL or a file that cannot be used."""
    certificate = server.client_cert
    try:
        key = f"url = {server.url}"
        parse_url(server.url)
        key = f"ca_file {authorities}"
        context = ssl.create_default_context(cafile=authorities)
        if certificate:
            key = f"client_cert {certificate}, a certificate and its key, unencrypted PEM"
            expect_private(certificate.stat(), f"[server] {key}", certificate)
            context.load_cert_chain(certificate, password="")
    except (OSError, ValueError) as error:
        raise UsageError(f"[server] {key}: {error}") from error


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
