"""worker.ini, environment and flags, checked and frozen into one `Config`.

The classes below are the one place where a key, its default and its range stand. What a key is for
stands beside it in worker.ini and in docs/configuration.md, which a test compares with them.
"""

import configparser
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from worker.errors import UsageError
from worker.expected import AS_TRAINED, parse_expected
from worker.files import PROJECT as PROJECT
from worker.files import weights_path
from worker.hints import Slip, address, did_you_mean, fraction, matching, number, one_of
from worker.record import EMOTIONS

DEFAULT_FILE = Path("worker.ini")
TOKEN_VARIABLE = "WORKER_SERVER_TOKEN"  # noqa: S105 - a name, no secret


def _key(default: Any, read: Callable[[Any], Any], **more: Any) -> Any:
    """A key: its default, and what makes a checked value of a text. It leaves such a value as it
    is, and raises ValueError that says what it must be."""
    return field(default=default, metadata={"read": read}, **more)


def _words(value: str | Iterable[str]) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def _url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Slip("must look like http://host:port or https://host")
    parts.port  # noqa: B018 - raises ValueError itself if the port is no number
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Slip("must hold no user or password (that is for token_file), no ? and no #")
    return url.rstrip("/")


def _expected(text: str) -> str:
    parse_expected(text)
    return " ".join(text.split())


def _classes(value: str | Iterable[str]) -> tuple[str, ...]:
    classes = tuple(map(_emotion, _words(value)))
    if len(set(classes)) != len(classes) or len(classes) == 1:
        raise Slip("must be two or more emotions, each once")
    return classes


_url_path = matching(r"(/([^/].*)?)?", "a path that begins with one /")
_id = matching(r"[\x21-\x7e]{1,100}", "1 to 100 visible ASCII characters")
_size = matching(r"[1-9]\d* ?[kMG]B", "a size such as 500 MB")
_rotation = matching(r"never|monthly|[1-9]\d* ?[kMG]B", "never, monthly, or a size such as 100 MB")
_emotion = one_of(*EMOTIONS)


@dataclass(frozen=True)
class _Section:
    """What all sections have in common: their values are checked, wherever they come from."""

    def __post_init__(self) -> None:
        for key in fields(self):
            value = getattr(self, key.name)
            if value != key.default:
                object.__setattr__(self, key.name, key.metadata["read"](value))


@dataclass(frozen=True)
class ServerConfig(_Section):
    """`[server]`: where images come from and results go."""

    url: str = _key("http://127.0.0.1:5000", _url)
    image_path: str = _key("/image", _url_path)
    threshold_path: str = _key("/threshold", _url_path)
    results_path: str = _key("", _url_path)
    token_file: Path | None = _key(None, Path)
    ca_file: Path | None = _key(None, Path)
    client_cert: Path | None = _key(None, Path)
    allowed_hosts: tuple[str, ...] = _key((), _words)
    timeout: float = _key(30.0, number(float, 0.001, 3600, " seconds"))
    max_image_bytes: int = _key(32_000_000, number(int, 1, 10_000_000_000, " bytes"))
    max_image_pixels: int = _key(64_000_000, number(int, 1, 1_000_000_000, " pixels"))
    fallback_threshold: float = _key(0.5, fraction)
    token: str | None = _key(None, str, repr=False)  # from the environment only


@dataclass(frozen=True)
class WorkerConfig(_Section):
    """`[worker]`: who it is and how often it asks."""

    id: str = _key(socket.gethostname(), _id)
    poll_interval: float = _key(5.0, number(float, 0.05, 86_400, " seconds"))
    max_backoff: float = _key(60.0, number(float, 1, 86_400, " seconds"))
    prefetch: int = _key(3, number(int, 0, 64, " images"))
    parallel: int = _key(1, number(int, 1, 64, " images at the same time"))


@dataclass(frozen=True)
class DetectionConfig(_Section):
    """`[detection]`: how faces are searched; an empty key follows the profile."""

    profile: Literal["fast", "default", "accurate"] = _key(
        "default", one_of("fast", "default", "accurate")
    )
    min_face: int | None = _key(None, number(int, 20, 10_000, " pixels"))
    min_face_share: float | None = _key(None, fraction)
    scale_step: float | None = _key(None, number(float, 1.01, 2))
    min_neighbors: int | None = _key(None, number(int, 0, 50, " hits"))
    min_confidence: float | None = _key(None, fraction)


@dataclass(frozen=True)
class ClassificationConfig(_Section):
    """`[classification]`: which network names the emotions."""

    weights: Path = _key(weights_path("emotion_net"), weights_path)
    classes: tuple[str, ...] = _key((), _classes)
    expected: str = _key(AS_TRAINED, _expected)
    threads: int = _key(1, number(int, 1, 64, " threads"))


@dataclass(frozen=True)
class DatabaseConfig(_Section):
    """`[database]`: the JSON file."""

    path: Path = _key(Path("results.json"), Path)
    rotate: str = _key("never", _rotation)
    keep_images: Path | None = _key(None, Path)
    keep_images_size: str = _key("1 GB", _size)


@dataclass(frozen=True)
class LogConfig(_Section):
    """`[log]`: what the daemon says on standard error."""

    level: str = _key("INFO", one_of("DEBUG", "INFO", "WARNING", "ERROR"))
    format: str = _key("text", one_of("text", "json"))


@dataclass(frozen=True)
class MetricsConfig(_Section):
    """`[metrics]`: figures for a monitoring system."""

    address: str = _key("", address)


@dataclass(frozen=True)
class Config:
    """The whole configuration, one attribute a section of worker.ini."""

    server: ServerConfig = ServerConfig()
    worker: WorkerConfig = WorkerConfig()
    detection: DetectionConfig = DetectionConfig()
    classification: ClassificationConfig = ClassificationConfig()
    database: DatabaseConfig = DatabaseConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()


def load_config(
    file: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Iterable[str] = (),
) -> Config:
    """Put together what a flag, else the environment, else worker.ini, else a default says.

    ``file``: a file that must exist; None: ./worker.ini if there is one. ``environment``: variables
    ``WORKER_<SECTION>_<KEY>``. ``flags``: texts ``section.key=value``. An empty value stands for
    the default. A relative path in worker.ini starts from the folder of worker.ini, one from
    elsewhere from the current folder.

    Raises UsageError that names the source and the key of what is unknown or out of range, also
    if a later source says something else.
    """
    if file is None and DEFAULT_FILE.is_file():
        file = DEFAULT_FILE
    config = Config()
    for setting in (
        *(_from_file(file) if file else ()),
        *_from_environment(os.environ if environment is None else environment),
        *_from_flags(flags),
    ):
        config = _changed(config, setting)
    return config


class _Setting(NamedTuple):
    """``source``: as messages call it; ``folder``: from which a relative path starts."""

    source: str
    section: str
    key: str
    value: str
    folder: Path = Path()


def _from_file(file: Path) -> Iterator[_Setting]:
    # No section holds defaults for the others: [DEFAULT] is unknown like any other name.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(file.read_text(encoding="utf-8-sig"), str(file))
    except OSError as error:
        raise UsageError(f"cannot read the configuration file {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no text in UTF-8; save it as that") from error
    except configparser.Error as error:
        raise UsageError(f"{file}: {' '.join(str(error).split())}") from error
    for section in parser.sections():
        _expect_known(f"{file}: unknown section [{section}]", section, vars(Config()))
        for key, value in parser[section].items():
            yield _Setting(str(file), section, key, value, file.parent)


def _from_environment(environment: Mapping[str, str]) -> Iterator[_Setting]:
    for name, value in sorted(environment.items()):
        parts = name.lower().split("_", 2)
        if len(parts) == 3 and parts[0] == "worker" and parts[1] in vars(Config()):
            yield _Setting(f"environment variable {name}", parts[1], parts[2], value)


def _from_flags(flags: Iterable[str]) -> Iterator[_Setting]:
    for flag in flags:
        name, equals, value = flag.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot):
            raise UsageError(f"--set {flag}: expected section.key=value")
        yield _Setting(f"--set {name.strip()}", section, key, value.strip())


def _changed(config: Config, setting: _Setting) -> Config:
    """The configuration with one key changed. Raises UsageError for what is unknown or wrong."""
    source, name, key, value, folder = setting
    _expect_known(f"{source}: unknown section [{name}]", name, vars(config))
    section = getattr(config, name)
    if key == "token" and TOKEN_VARIABLE not in source:
        raise UsageError(
            f"{source}: a token does not belong here; put it into a file and name that in "
            f"[server] token_file, or set {TOKEN_VARIABLE}"
        )
    _expect_known(f"{source}: unknown key {key} in [{name}]", key, vars(section))
    try:
        if "\0" in value:
            raise Slip("must hold no zero byte")
        section = replace(section, **{key: value or getattr(type(section)(), key)})
        if value and isinstance(path := getattr(section, key), Path):
            section = replace(section, **{key: folder / path.expanduser()})
    except (ValueError, RuntimeError) as error:  # RuntimeError: ~ of a user who has no home
        shown = re.sub("//.*@", "//***@", value)  # a password
        raise UsageError(f"{source}: [{name}] {key} = {shown}: {error}") from None
    return replace(config, **{name: section})


def _expect_known(complaint: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        listed = ", ".join(each for each in known if each != "token")
        raise UsageError(f"{complaint}{did_you_mean(name, known)}; known: {listed}")
