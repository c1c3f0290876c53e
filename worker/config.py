"""worker.ini, environment and flags, checked and frozen into one `Config`.

The classes below are the one place where a key, its default, its range and its explanation stand:
worker.ini and the table in docs/configuration.md are made from them (`worker/config_text.py`).
"""

import configparser
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo

from worker.errors import UsageError
from worker.record import EMOTIONS

PROJECT = Path(__file__).resolve().parent.parent
DEFAULT_FILE = Path("worker.ini")
DEFAULT_WEIGHTS = PROJECT / "weights" / "emotion_net.safetensors"
PIXEL_LIMIT_VARIABLE = "OPENCV_IO_MAX_IMAGE_PIXELS"
TOKEN_VARIABLE = "WORKER_SERVER_TOKEN"  # noqa: S105 - a name, no secret


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ServerConfig(_Section):
    """`[server]`: where images come from and results go."""

    url: str = Field("http://127.0.0.1:5000", description="the Flask server; paths are added to it")
    image_path: str = Field("/image", description="GET: the next image")
    threshold_path: str = Field("/threshold", description="GET: the threshold in force")
    results_path: str = Field("", description="POST: where results go, e.g. /results; empty: off")
    token_file: Path | None = Field(
        None, description="file with the bearer token, readable by its owner only (chmod 600)"
    )
    ca_file: Path | None = Field(None, description="PEM file of a private certificate authority")
    client_cert: Path | None = Field(
        None,
        description="PEM file of our own certificate and its key, readable by its owner only "
        "(chmod 600); shown to url's host alone",
    )
    allowed_hosts: Words = Field(
        (),
        description="other hosts (host or host:port) that an image_url may name, by commas; of one "
        "with a private address that address, or its network, too",
    )
    timeout: float = Field(
        30, gt=0, le=3600, description="seconds for one whole request, download included"
    )
    max_image_bytes: int = Field(32_000_000, gt=0, description="a larger image is not read")
    max_image_pixels: int = Field(
        64_000_000, gt=0, le=1_000_000_000, description="a larger image is not decoded"
    )
    fallback_threshold: float = Field(
        0.5, ge=0, le=1, description="used where the server has no threshold (404)"
    )
    token: SecretStr | None = None  # from the environment only

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must look like http://host:port or https://host")
        parts.port  # noqa: B018 - raises ValueError itself where the port is no number
        if parts.username or parts.password:
            raise ValueError("must hold no user or password; put a token into token_file")
        if parts.query or parts.fragment:
            raise ValueError("must hold no ? or #; paths have keys of their own")
        return url.rstrip("/")

    @field_validator("image_path", "threshold_path", "results_path")
    @classmethod
    def _is_path(cls, path: str) -> str:
        if path and (not path.startswith("/") or path.startswith("//")):
            raise ValueError("must begin with one /")
        return path


class WorkerConfig(_Section):
    """`[worker]`: who it is and how often it asks."""

    id: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[\x21-\x7e]{1,100}$",
        description="sent as X-Worker-Id and stored with each record; default: the host name",
    )
    poll_interval: float = Field(
        5, ge=0.05, le=86_400, description="seconds between polls that find nothing"
    )
    max_backoff: float = Field(
        60, ge=1, le=86_400, description="seconds; the longest wait after faults"
    )
    prefetch: int = Field(
        3, ge=0, le=64, description="images pulled ahead, so that the network is never waited for"
    )
    parallel: int = Field(
        1,
        ge=1,
        le=64,
        description="images analysed at the same time, each by a process of its own: a CPU core "
        "and about 300 MB for each",
    )


class DetectionConfig(_Section):
    """`[detection]`: how faces are searched; an empty key follows the profile."""

    profile: Literal["fast", "default", "accurate"] = Field(
        "default", description="fast, default or accurate"
    )
    min_face: int | None = Field(
        None, ge=20, le=10_000, description="side in pixels of the smallest face that is searched"
    )
    min_face_share: float | None = Field(
        None, ge=0, le=1, description="the same as a share of the longer side; the larger counts"
    )
    scale_step: float | None = Field(
        None, ge=1.01, le=2, description="ratio of one search size to the next"
    )
    min_neighbors: int | None = Field(
        None, ge=0, le=50, description="overlapping hits that make a face"
    )
    min_confidence: float | None = Field(
        None, ge=0, le=1, description="probability from which the second stage takes it for a face"
    )


class ClassificationConfig(_Section):
    """`[classification]`: which network names the emotions."""

    weights: Path = Field(DEFAULT_WEIGHTS, description="the trained network, a file of weights/")
    classes: Words = Field(
        (), description="report only these, by commas; probabilities are shared among them; all"
    )
    threads: int = Field(1, ge=1, le=64, description="CPU threads of the network and the detector")

    @field_validator("classes")
    @classmethod
    def _are_emotions(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in classes if name not in EMOTIONS]
        if unknown or len(set(classes)) != len(classes) or len(classes) == 1:
            raise ValueError(f"must be two or more of: {', '.join(EMOTIONS)}")
        return classes


class DatabaseConfig(_Section):
    """`[database]`: the JSON file."""

    path: Path = Field(Path("results.json"), description="the TinyDB file that records go to")
    rotate: str = Field(
        "never",
        pattern=r"^(never|monthly|[1-9]\d* ?[kMG]B)$",
        description="when a new file is begun: never, monthly, or at a size such as 100 MB",
    )
    keep_images: Path | None = Field(
        None, description="folder in which the analysed images are kept; empty: off"
    )
    keep_images_size: str = Field(
        "1 GB",
        pattern=r"^[1-9]\d* ?[kMG]B$",
        description="the oldest kept images are removed beyond this",
    )


class LogConfig(_Section):
    """`[log]`: what the daemon says on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="DEBUG, INFO, WARNING or ERROR"
    )
    format: Literal["text", "json"] = Field("text", description="text or json (one object a line)")


class MetricsConfig(_Section):
    """`[metrics]`: figures for a monitoring system."""

    address: str = Field(
        "",
        description="host:port of /metrics and /healthz, e.g. 127.0.0.1:9464; a port alone: on "
        "loopback; empty: off",
    )

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str) -> str:
        if not address:
            return address
        parts = re.fullmatch(r"(?:([A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):)?([0-9]{1,5})", address)
        if parts is None or int(parts[2]) > 65_535:
            raise ValueError("must look like 127.0.0.1:9464")
        return f"{parts[1] or '127.0.0.1'}:{parts[2]}"


class Config(_Section):
    """The whole configuration, one attribute a section of worker.ini."""

    server: ServerConfig = ServerConfig()
    worker: WorkerConfig = Field(default_factory=WorkerConfig)
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
    settings = [
        *(_from_file(file) if file else ()),
        *_from_environment(os.environ if environment is None else environment),
        *_from_flags(flags),
    ]
    values: dict[str, dict[str, str]] = {}
    sources: dict[tuple[str, str], str] = {}
    for setting in settings:
        _check_known(setting)
        sources[setting.section, setting.key] = setting.source
        values.setdefault(setting.section, {}).pop(setting.key, None)
        if setting.value:
            values[setting.section][setting.key] = setting.value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        section, key = str(problem["loc"][0]), str(problem["loc"][1])
        message = problem["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"{sources[section, key]}: [{section}] {key} = {values[section][key]}: {message}"
        ) from None


class _Setting(NamedTuple):
    section: str
    key: str
    value: str
    source: str


def _from_file(file: Path) -> Iterator[_Setting]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with file.open(encoding="utf-8") as lines:
            parser.read_file(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the configuration file {file}: {error}") from error
    except configparser.Error as error:
        raise UsageError(f"{file}: {' '.join(str(error).split())}") from error
    for key in parser.defaults():
        raise UsageError(f"{file}: [DEFAULT] {key}: there is no section [DEFAULT]")
    for section in parser.sections():
        _check_section(section, str(file))
        for key, raw in parser[section].items():
            value = raw
            if value and _is_path(section, key):
                value = str(file.parent / Path(value).expanduser())
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


def _section_fields(section: str) -> dict[str, FieldInfo]:
    model = Config.model_fields[section].annotation
    assert isinstance(model, type) and issubclass(model, BaseModel)
    return model.model_fields


def _is_path(section: str, key: str) -> bool:
    field = _section_fields(section).get(key)
    return field is not None and Path in (field.annotation, *get_args(field.annotation))


def _check_section(section: str, source: str) -> None:
    if section not in Config.model_fields:
        known = ", ".join(f"[{name}]" for name in Config.model_fields)
        raise UsageError(f"{source}: unknown section [{section}]; known: {known}")


def _check_known(setting: _Setting) -> None:
    _check_section(setting.section, setting.source)
    fields = _section_fields(setting.section)
    if setting.key not in fields:
        known = ", ".join(name for name in fields if name != "token")
        raise UsageError(
            f"{setting.source}: unknown key {setting.key} in [{setting.section}]; known: {known}"
        )
    if setting.key == "token" and TOKEN_VARIABLE not in setting.source:
        raise UsageError(
            f"{setting.source}: a token does not belong here; put it into a file and name that in "
            f"[server] token_file, or set {TOKEN_VARIABLE}"
        )
