"""The client against a real TLS server with a private certificate authority."""

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.client.helpers import DEADLINE, PATIENCE
from tests.scripted_server import RawServer, Reply, ScriptedServer, drip_body, read_head
from worker.client import ServerClient
from worker.config import ServerConfig
from worker.errors import RetryLater, ServerUnreachable, UsageError

KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

pytestmark = pytest.mark.skipif(
    not shutil.which("openssl"), reason="HTTPS: apt-get install openssl"
)


class Authority:
    """A private certificate authority in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = folder / "ca.pem"
        self._openssl(
            f"req -x509 {KEY} -days 2 -subj /CN=ca -keyout ca.key -out ca.pem "
            "-addext keyUsage=critical,keyCertSign"
        )

    def serve_as(self, *names: str, days: int = 1) -> ssl.SSLContext:
        """A server's context with a new certificate for ``names``; 0 days: it has expired."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certify("server", *names, days=days))
        return context

    def serve_the_certified(self) -> ssl.SSLContext:
        """A server's context that demands a certificate of this authority from its clients."""
        context = self.serve_as("IP:127.0.0.1")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.file)
        return context

    def certify(self, subject: str, *names: str, days: int = 1) -> Path:
        """A file, readable by its owner only, with a new certificate and its key."""
        (self._folder / "extensions").write_text(
            f"subjectAltName={','.join(names)}\nauthorityKeyIdentifier=keyid\n"
        )
        self._openssl(f"req {KEY} -subj /CN={subject} -keyout new.key -out new.csr")
        self._openssl(
            "x509 -req -in new.csr -CA ca.pem -CAkey ca.key -CAcreateserial "
            f"-days {days} -extfile extensions -out new.pem"
        )
        file = self._folder / f"{subject}.pem"
        file.touch(mode=0o600)
        file.write_bytes(
            b"".join((self._folder / f"new.{kind}").read_bytes() for kind in ("pem", "key"))
        )
        return file

    def _openssl(self, arguments: str) -> None:
        command = ["openssl", *arguments.split()]
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other_authority"))


@pytest.fixture(scope="module")
def valid(authority: Authority) -> ssl.SSLContext:
    return authority.serve_as("IP:127.0.0.1", "DNS:localhost")


def new_client(url: str, ca_file: Path | None, **keys: Any) -> ServerClient:
    token = "s3cr3t"
    config = ServerConfig(url=url, ca_file=ca_file, token=token, **{"timeout": PATIENCE} | keys)
    return ServerClient(config, "worker-1")


def test_a_server_that_our_authority_vouches_for_is_trusted(
    authority: Authority, valid: ssl.SSLContext
) -> None:
    with ScriptedServer(valid) as server:
        server.script("/image", Reply(200, b"png", {"Content-Type": "image/png"}))
        for url in (server.url, f"https://localhost:{server.port}"):
            image = new_client(url, authority.file).pull_image()
            assert image is not None and image.content == b"png"


def refused(client: ServerClient, server: ScriptedServer, says: str) -> None:
    with pytest.raises(ServerUnreachable, match=f"TLS: .*{says}.*ca_file"):
        client.pull_image()
    assert not server.requests  # so the token was not shown either


def test_a_server_of_another_authority_is_refused(
    other_authority: Authority, valid: ssl.SSLContext
) -> None:
    with ScriptedServer(valid) as server:
        refused(new_client(server.url, other_authority.file), server, "local issuer")


def test_a_private_authority_is_trusted_only_if_it_is_configured(valid: ssl.SSLContext) -> None:
    with ScriptedServer(valid) as server:
        refused(new_client(server.url, None), server, "local issuer")


def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    with ScriptedServer(authority.serve_as("IP:127.0.0.1", days=0)) as server:
        refused(new_client(server.url, authority.file), server, "expired")


@pytest.mark.parametrize("name", ["DNS:other.example", "DNS:127.0.0.1", "IP:127.0.0.2"])
def test_a_certificate_for_another_host_is_refused(authority: Authority, name: str) -> None:
    with ScriptedServer(authority.serve_as(name)) as server:
        refused(new_client(server.url, authority.file), server, "mismatch")


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_environment_decides_nothing_about_trust(
    authority: Authority,
    other_authority: Authority,
    valid: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    with ScriptedServer(valid) as server:
        monkeypatch.setenv(variable, str(authority.file))
        refused(new_client(server.url, None), server, "local issuer")
        refused(new_client(server.url, other_authority.file), server, "local issuer")

        monkeypatch.setenv(variable, str(other_authority.file))
        server.script("/image", Reply(204))
        assert new_client(server.url, authority.file).pull_image() is None


def test_no_proxy_of_the_environment_sees_a_request(
    authority: Authority, valid: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ScriptedServer(valid) as server:
        server.script("/image", Reply(204))
        assert new_client(server.url, authority.file).pull_image() is None


def test_plain_http_on_either_side_of_tls_is_unreachable(
    authority: Authority, valid: ssl.SSLContext
) -> None:
    with ScriptedServer() as plain:
        refused(new_client(f"https://127.0.0.1:{plain.port}", authority.file), plain, "")
    with ScriptedServer(valid) as server:
        with pytest.raises(ServerUnreachable):
            new_client(f"http://127.0.0.1:{server.port}", None).pull_image()
        assert not server.requests


def test_an_image_url_that_leaves_tls_is_refused(
    authority: Authority, valid: ssl.SSLContext
) -> None:
    with ScriptedServer(valid) as server, ScriptedServer() as plain:
        answer = b'{"task_id": "a", "image_url": "http://127.0.0.1:%d/1.png"}'
        json = {"Content-Type": "application/json"}
        server.script(
            "/image",
            Reply(200, answer % server.port, json),
            Reply(200, answer % plain.port, json),
        )
        client = new_client(server.url, authority.file)
        for _ in range(2):
            image = client.pull_image()
            assert image is not None and image.problem is not None
            assert image.problem.kind == "refused_url"
        assert not plain.requests


def test_a_renewed_ca_file_holds_without_a_restart(
    authority: Authority, other_authority: Authority, valid: ssl.SSLContext, tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    shutil.copy(other_authority.file, ca_file)
    with ScriptedServer(valid) as server:
        client = new_client(server.url, ca_file)
        refused(client, server, "local issuer")

        shutil.copy(authority.file, ca_file)
        server.script("/image", Reply(204))
        assert client.pull_image() is None


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_file_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)

    with pytest.raises(UsageError, match=rf"\[server\] ca_file.*{ca_file}"):
        new_client("https://127.0.0.1", ca_file)


# --- Our own certificate


@pytest.fixture(scope="module")
def client_cert(authority: Authority) -> Path:
    return authority.certify("worker", "DNS:worker")


def test_a_server_that_demands_our_certificate_gets_it(
    authority: Authority, client_cert: Path
) -> None:
    with ScriptedServer(authority.serve_the_certified()) as server:
        server.script("/image", Reply(204))
        server.script("/threshold", Reply(200, b"0.25"))
        with pytest.raises(ServerUnreachable):
            new_client(server.url, authority.file).pull_image()
        assert not server.requests

        client = new_client(server.url, authority.file, client_cert=client_cert)
        assert client.pull_image() is None
        assert client.pull_threshold() == 0.25


def test_our_certificate_is_shown_to_our_own_server_alone(
    authority: Authority, client_cert: Path
) -> None:
    with (
        ScriptedServer(authority.serve_the_certified()) as server,
        ScriptedServer(authority.serve_the_certified()) as allowed,
    ):
        document = b'{"task_id": "a", "image_url": "%s/1.png"}'
        json, png = ({"Content-Type": kind} for kind in ("application/json", "image/png"))
        server.script(
            "/image",
            Reply(200, document % server.url.encode(), json),
            Reply(200, document % allowed.url.encode(), json),
        )
        server.script("/1.png", Reply(200, b"png", png))
        allowed.script("/1.png", Reply(200, b"png", png))
        hosts = (f"127.0.0.1:{allowed.port}",)
        client = new_client(
            server.url, authority.file, client_cert=client_cert, allowed_hosts=hosts
        )

        image = client.pull_image()
        assert image is not None and image.content == b"png"
        # The other one asks for it just as well, and gets none.
        with pytest.raises(ServerUnreachable):
            client.pull_image()
        assert not allowed.requests


def test_a_renewed_certificate_of_ours_holds_without_a_restart(
    authority: Authority, other_authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "worker.pem"
    shutil.copy(other_authority.certify("worker", "DNS:worker"), file)
    with ScriptedServer(authority.serve_the_certified()) as server:
        client = new_client(server.url, authority.file, client_cert=file)
        with pytest.raises(ServerUnreachable):
            client.pull_image()

        shutil.copy(authority.certify("worker", "DNS:worker"), file)
        server.script("/image", Reply(204))
        assert client.pull_image() is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_certificate_that_others_may_read_is_refused(
    client_cert: Path, tmp_path: Path, mode: int
) -> None:
    file = tmp_path / "worker.pem"
    shutil.copy(client_cert, file)
    file.chmod(mode)
    with pytest.raises(UsageError, match=rf"\[server\] client_cert.*chmod 600 {file}"):
        new_client("https://127.0.0.1", None, client_cert=file)


def locked(authority: Authority, folder: Path) -> Path:
    """A certificate whose key has a password."""
    file = authority.certify("locked", "DNS:worker")
    command = f"openssl ec -aes128 -passout pass:abc -in {file} -out key"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    file.write_text(
        f"{file.read_text().partition('-----BEGIN PRIVATE')[0]}{(folder / 'key').read_text()}"
    )
    return file


def test_a_file_without_a_certificate_and_its_open_key_is_refused_and_nothing_asked(
    authority: Authority, client_cert: Path, tmp_path: Path
) -> None:
    certificate, separator, key = client_cert.read_text().partition("-----BEGIN PRIVATE")
    for content in ("", certificate, separator + key, locked(authority, tmp_path).read_text()):
        file = tmp_path / "worker.pem"
        file.touch(mode=0o600)
        file.write_text(content)
        with pytest.raises(UsageError, match=r"\[server\] client_cert.*unencrypted PEM"):
            new_client("https://127.0.0.1", None, client_cert=file)
    with pytest.raises(UsageError, match=r"client_cert.*nothing.*No such file"):
        new_client("https://127.0.0.1", None, client_cert=tmp_path / "nothing")


def test_a_password_that_comes_with_a_renewed_certificate_is_not_asked_for(
    authority: Authority, client_cert: Path, tmp_path: Path
) -> None:
    file = tmp_path / "worker.pem"
    shutil.copy(client_cert, file)
    with ScriptedServer(authority.serve_the_certified()) as server:
        client = new_client(server.url, authority.file, client_cert=file)
        shutil.copy(locked(authority, tmp_path), file)
        with pytest.raises(ServerUnreachable, match="client_cert"):
            client.pull_image()


def drip_handshake(connection: socket.socket) -> None:
    connection.sendall(b"\x16\x03\x03\x40\x00\x02")  # a record of 16 KiB begins
    while True:
        time.sleep(0.05)
        connection.sendall(b"\x00")


@pytest.mark.parametrize("encrypted", [False, True])
def test_dripping_cannot_pass_the_deadline_inside_tls_either(
    authority: Authority, valid: ssl.SSLContext, encrypted: bool
) -> None:
    def drip_in_tls(connection: socket.socket) -> None:
        with valid.wrap_socket(connection, server_side=True) as secured:
            drip_body(secured)

    act: Callable[[socket.socket], None] = drip_in_tls if encrypted else drip_handshake
    with RawServer(act) as raw:
        client = new_client(f"https://127.0.0.1:{raw.port}", authority.file, timeout=DEADLINE)
        with pytest.raises(RetryLater, match="too long"):
            client.pull_image()


def test_a_server_that_hardly_reads_cannot_hold_a_post_inside_tls_either(
    authority: Authority, valid: ssl.SSLContext
) -> None:
    def read_a_little(connection: socket.socket) -> None:
        with valid.wrap_socket(connection, server_side=True) as secured:
            while secured.recv(10_000):
                time.sleep(0.05)

    with RawServer(read_a_little) as raw:
        url = f"https://127.0.0.1:{raw.port}"
        client = new_client(url, authority.file, timeout=DEADLINE, results_path="/results")
        with pytest.raises(ServerUnreachable, match="too long"):
            client.post_result({"task_id": "a", "padding": "a" * 20_000_000}, lease_id=None)


def test_a_kept_connection_that_the_server_closes_is_no_outage_inside_tls_either(
    authority: Authority, valid: ssl.SSLContext
) -> None:
    def answer_once(connection: socket.socket) -> None:
        with valid.wrap_socket(connection, server_side=True) as secured:
            read_head(secured)
            secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            read_head(secured)

    with RawServer(answer_once) as raw:
        client = new_client(f"https://127.0.0.1:{raw.port}", authority.file)

        assert client.pull_image() is None
        assert client.pull_image() is None
        assert raw.connections == 2
