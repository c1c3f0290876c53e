"""worker.ini, environment and flags, checked and frozen into one `Config`.

The classes below are the one place where a key, its default and its range stand. What a key is for
stands beside it in worker.ini and in docs/configuration.md, which a test compares with them.
"""

import configparser
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from worker.errors import UsageError
from worker.expected import AS_TRAINED, parse_expected
from worker.files import PROJECT as PROJECT
from worker.files import weights_path
from worker.hints import did_you_mean, fraction_hint
from worker.record import EMOTIONS

DEFAULT_FILE = Path("worker.ini")
DEFAULT_WEIGHTS = weights_path("emotion_net")
TOKEN_VARIABLE = "WORKER_SERVER_TOKEN"  # noqa: S105 - a name, no secret


def _number(default: float | None, low: float, high: float, unit: str = "") -> Any:
    """A field of ``low`` to ``high``; its description is what a value must be, for messages."""
    words = f"a number from {low:.12g} to {high:.12g}{unit}"
    return Field(default, ge=low, le=high, description=words)


def _text(pattern: str, words: str) -> Any:
    """What a text must match; ``words`` say the same for messages."""
    return Field(pattern=pattern, description=words)


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must look like http://host:port or https://host")
    parts.port  # noqa: B018 - raises ValueError itself if the port is no number
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no user or password (that is for token_file), no ? and no #")
    return url.rstrip("/")


def _check_expected(text: str) -> str:
    parse_expected(text)
    return " ".join(text.split())


def _check_classes(classes: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in classes if name not in EMOTIONS]
    if unknown or len(set(classes)) != len(classes) or len(classes) == 1:
        hint = did_you_mean(unknown[0], EMOTIONS) if unknown else ""
        raise ValueError(f"must be two or more of {', '.join(EMOTIONS)}{hint}")
    return classes


def _check_address(address: str) -> str:
    parts = re.fullmatch(r"(?:([A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):)?([0-9]{1,5})", address)
    if parts is None or int(parts[2]) > 65_535:
        raise ValueError("must look like 127.0.0.1:9464")
    return f"{parts[1] or '127.0.0.1'}:{parts[2]}"


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
UrlPath = Annotated[str, _text(r"^(/([^/].*)?)?$", "a path that begins with one /")]
Id = Annotated[str, _text(r"^[\x21-\x7e]{1,100}$", "1 to 100 visible ASCII characters")]
WHEN = "never, monthly, or a size such as 100 MB"
Rotation = Annotated[str, _text(r"^(never|monthly|[1-9]\d* ?[kMG]B)$", WHEN)]
Size = Annotated[str, _text(r"^[1-9]\d* ?[kMG]B$", "a size such as 500 MB")]


class _Section(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """What all sections have in common: they cannot be changed, and know no other key."""


class ServerConfig(_Section):
    """`[server]`: where images come from and results go."""

    url: Annotated[str, AfterValidator(_check_url)] = "http://127.0.0.1:5000"
    image_path: UrlPath = "/image"
    threshold_path: UrlPath = "/threshold"
    results_path: UrlPath = ""
    token_file: Path | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    allowed_hosts: Words = ()
    timeout: float = _number(30, 0.001, 3600, " seconds")
    max_image_bytes: int = _number(32_000_000, 1, 10_000_000_000, " bytes")
    max_image_pixels: int = _number(64_000_000, 1, 1_000_000_000, " pixels")
    fallback_threshold: float = _number(0.5, 0, 1)
    token: SecretStr | None = None  # from the environment only


class WorkerConfig(_Section):
    """`[worker]`: who it is and how often it asks."""

    id: Id = Field(default_factory=socket.gethostname)
    poll_interval: float = _number(5, 0.05, 86_400, " seconds")
    max_backoff: float = _number(60, 1, 86_400, " seconds")
    prefetch: int = _number(3, 0, 64, " images")
    parallel: int = _number(1, 1, 64, " images at the same time")


class DetectionConfig(_Section):
    """`[detection]`: how faces are searched; an empty key follows the profile."""

    profile: Literal["fast", "default", "accurate"] = "default"
    min_face: int | None = _number(None, 20, 10_000, " pixels")
    min_face_share: float | None = _number(None, 0, 1)
    scale_step: float | None = _number(None, 1.01, 2)
    min_neighbors: int | None = _number(None, 0, 50, " hits")
    min_confidence: float | None = _number(None, 0, 1)


class ClassificationConfig(_Section):
    """`[classification]`: which network names the emotions."""

    weights: Annotated[Path, BeforeValidator(weights_path)] = DEFAULT_WEIGHTS
    classes: Annotated[Words, AfterValidator(_check_classes)] = ()
    expected: Annotated[str, AfterValidator(_check_expected)] = AS_TRAINED
    threads: int = _number(1, 1, 64, " threads")


class DatabaseConfig(_Section):
    """`[database]`: the JSON file."""

    path: Path = Path("results.json")
    rotate: Rotation = "never"
    keep_images: Path | None = None
    keep_images_size: Size = "1 GB"


class LogConfig(_Section):
    """`[log]`: what the daemon says on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["text", "json"] = "text"


class MetricsConfig(_Section):
    """`[metrics]`: figures for a monitoring system."""

    address: Annotated[str, AfterValidator(_check_address)] = ""


class Config(_Section):
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

    Raises UsageError that names the source and the key of what is unknown or out of range.
    """
    if file is None and DEFAULT_FILE.is_file():
        file = DEFAULT_FILE
    values: dict[str, dict[str, str]] = {}
    sources: dict[tuple[str, str], str] = {}
    for setting in (
        *(_from_file(file) if file else ()),
        *_from_environment(os.environ if environment is None else environment),
        *_from_flags(flags),
    ):
        _field(setting)
        sources[setting.section, setting.key] = setting.source
        values.setdefault(setting.section, {}).pop(setting.key, None)
        if setting.value:
            values[setting.section][setting.key] = setting.value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        section, key = str(problem["loc"][0]), str(problem["loc"][1])
        setting = _Setting(section, key, values[section][key], sources[section, key])
        message = _message(setting, problem["msg"].removeprefix("Value error, "))
        raise UsageError(
            f"{setting.source}: [{section}] {key} = {setting.value}: {message}"
        ) from None


class _Setting(NamedTuple):
    section: str
    key: str
    value: str
    source: str


def _from_file(file: Path) -> Iterator[_Setting]:
    # No section holds defaults for the others: [DEFAULT] is unknown like any other name.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(file.read_text(encoding="utf-8-sig"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the configuration file {file}: {error}") from error
    except configparser.Error as error:
        raise UsageError(f"{file}: {' '.join(str(error).split())}") from error
    for section in parser.sections():
        fields = _fields(section, str(file))
        for key, value in parser[section].items():
            if value and key in fields and Path in _kinds(fields[key]):
                path = weights_path(value) if key == "weights" else Path(value)
                value = str(file.parent / path.expanduser())
            yield _Setting(section, key, value, str(file))


def _from_environment(environment: Mapping[str, str]) -> Iterator[_Setting]:
    for name, value in sorted(environment.items()):
        parts = name.lower().split("_", 2)
        if len(parts) == 3 and parts[0] == "worker" and parts[1] in Config.model_fields:
            yield _Setting(parts[1], parts[2], value, f"environment variable {name}")


def _from_flags(flags: Iterable[str]) -> Iterator[_Setting]:
    for flag in flags:
        name, equals, value = flag.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot):
            raise UsageError(f"--set {flag}: expected section.key=value")
        yield _Setting(section, key, value.strip(), f"--set {name.strip()}")


def _fields(section: str, source: str) -> dict[str, FieldInfo]:
    """The keys of a section. Raises UsageError if there is none of this name."""
    if section not in Config.model_fields:
        known = ", ".join(f"[{name}]" for name in Config.model_fields)
        hint = did_you_mean(section, Config.model_fields)
        raise UsageError(f"{source}: unknown section [{section}]{hint}; known: {known}")
    model = Config.model_fields[section].annotation
    assert isinstance(model, type) and issubclass(model, BaseModel)
    return model.model_fields


def _field(setting: _Setting) -> FieldInfo:
    """What is known of a key. Raises UsageError if there is none of this name."""
    section, key, _, source = setting
    fields = _fields(section, source)
    if key == "token" and TOKEN_VARIABLE not in source:
        raise UsageError(
            f"{source}: a token does not belong here; put it into a file and name that in "
            f"[server] token_file, or set {TOKEN_VARIABLE}"
        )
    if key not in fields:
        known = [name for name in fields if name != "token"]
        hint = did_you_mean(key, known)
        raise UsageError(
            f"{source}: unknown key {key} in [{section}]{hint}; known: {', '.join(known)}"
        )
    return fields[key]


def _kinds(field: FieldInfo) -> tuple[Any, ...]:
    return (field.annotation, *get_args(field.annotation))


def _message(setting: _Setting, otherwise: str) -> str:
    """What a value must be; ``otherwise``: what a validator of ours said."""
    field, value = _field(setting), setting.value
    choices = [each for each in _kinds(field) if isinstance(each, str)]
    if choices:
        return f"must be one of {', '.join(choices)}{did_you_mean(value, choices)}"
    if field.description is None:
        return otherwise
    number = "a whole number" if int in _kinds(field) else "a number"
    words = field.description.replace("a number", number)
    percent = words.endswith("from 0 to 1") and value.replace(".", "", 1).isdecimal()
    return f"must be {words}{fraction_hint(float(value)) if percent else ''}"
