"""worker.ini, environment and flags become one checked configuration."""

import configparser
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.config import PROJECT, Config, DatabaseConfig, ServerConfig, load_config
from worker.errors import UsageError


def write(folder: Path, text: str) -> Path:
    file = folder / "worker.ini"
    file.write_text(text)
    return file


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    file = write(tmp_path, "[worker]\npoll_interval = 7\n")

    def interval(environment: dict[str, str], *flags: str) -> float:
        return load_config(file, environment=environment, flags=flags).worker.poll_interval

    assert load_config(environment={}, file=None).worker.poll_interval == 5
    assert interval({}) == 7
    assert interval({"WORKER_WORKER_POLL_INTERVAL": "8"}) == 8
    assert interval({"WORKER_WORKER_POLL_INTERVAL": "8"}, "worker.poll_interval=9") == 9


def test_an_empty_value_stands_for_the_default(tmp_path: Path) -> None:
    file = write(tmp_path, "[server]\nresults_path = /results\ntimeout =\n")
    assert load_config(file, environment={}).server.timeout == 30
    switched_off = load_config(file, environment={"WORKER_SERVER_RESULTS_PATH": ""})
    assert switched_off.server.results_path == ""


def test_a_relative_path_in_the_file_starts_from_the_files_folder(tmp_path: Path) -> None:
    file = write(tmp_path, "[database]\npath = data/results.json\n")
    assert load_config(file, environment={}).database.path == tmp_path / "data/results.json"
    flagged = load_config(file, environment={}, flags=["database.path=here.json"])
    assert flagged.database.path == Path("here.json")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[serve]\nurl = http://a\n", "unknown section [serve]; did you mean server?"),
        ("[serve]\n", "unknown section [serve]"),
        ("[server]\nurll = http://a\n", "unknown key urll in [server]; did you mean url?"),
        ("[server]\nurl = localhost:5000\n", "[server] url = localhost:5000: must look like"),
        ("[server]\nurl = http://a:b\n", "[server] url = http://a:b: "),
        ("[server]\nurl = http://me:secret@a\n", "http://***@a: must hold no user or password"),
        ("[server]\nurl = htp://me:secret@a\n", "htp://***@a: must look like"),
        ("[server]\ntimeout = 0\n", "timeout = 0: must be a number from 0.001 to 3600 seconds"),
        ("[server]\ntimeout = soon\n", "must be a number from 0.001 to 3600 seconds"),
        ("[server]\nmax_image_bytes = 1.5\n", "must be a whole number from 1 to "),
        ("[server]\nimage_path = image\n", "image_path = image: must be a path that begins with"),
        ("[server]\nimage_path = //a\n", "must be a path that begins with one /"),
        ("[server]\nfallback_threshold = 7\n", "number from 0 to 1; did you mean 0.07?"),
        ("[server]\nfallback_threshold = 20\n", "number from 0 to 1; did you mean 0.2?"),
        ("[server]\nfallback_threshold = nan\n", "[server] fallback_threshold = nan"),
        ("[server]\ntoken = abc\n", "a token does not belong here"),
        ("[worker]\npoll_interval = -1\n", "must be a number from 0.05 to 86400 seconds"),
        ("[worker]\nid = a b\n", "must be 1 to 100 visible ASCII characters"),
        ("[detection]\nmin_face = 5\n", "must be a whole number from 20 to 10000 pixels"),
        ("[detection]\nprofile = acurate\n", "default, accurate; did you mean accurate?"),
        ("[classification]\nclasses = joy, fear\n", "[classification] classes = joy, fear"),
        ("[classification]\nclasses = happy, fear\n", "did you mean happiness?"),
        ("[classification]\nexpected = happy 0.5\n", "expected = happy 0.5: must be as trained"),
        ("[classification]\nexpected = fear 50\n", "number from 0 to 1; did you mean 0.5?"),
        ("[database]\nrotate = sometimes\n", "must be never, monthly, or a size such as 100 MB"),
        ("[database]\nkeep_images_size = 1 TB\n", "must be a size such as 500 MB"),
        ("[database]\npath = ~nobody-of-that-name/a.json\n", "[database] path = ~nobody"),
        ("[database]\npath = a\0b.json\n", "must hold no zero byte"),
        ("[log]\nlevel = verbose\n", "must be one of DEBUG, INFO, WARNING, ERROR"),
        ("[metrics]\naddress = 127.0.0.1\n", "[metrics] address = 127.0.0.1: must look like"),
        ("[metrics]\naddress = here:99999\n", "[metrics] address = here:99999: must look like"),
        ("[metrics]\naddress = http://a:1\n", "[metrics] address = http://a:1: must look like"),
        ("url = http://a\n", "no section headers"),
        ("[server]\nurl = http://a\nurl = http://b\n", "already exists"),
        ("[DEFAULT]\nurl = http://a\n", "[DEFAULT]"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_config(file, environment={})
    assert says in str(caught.value)
    assert str(file) in str(caught.value)
    assert "secret" not in str(caught.value)
    for word in ("Input", "valid", "string", "parse"):  # words of libraries
        assert word not in str(caught.value)


def test_a_byte_order_mark_as_editors_leave_it_is_no_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "worker.ini"
    file.write_text("[worker]\npoll_interval = 7\n", encoding="utf-8-sig")
    assert load_config(file, environment={}).worker.poll_interval == 7


def test_the_environment_and_flags_are_named_as_the_source() -> None:
    with pytest.raises(UsageError, match="environment variable WORKER_SERVER_TIMEOUT"):
        load_config(environment={"WORKER_SERVER_TIMEOUT": "x"})
    with pytest.raises(UsageError, match=r"--set server\.nothing: unknown key nothing"):
        load_config(environment={}, flags=["server.nothing=1"])
    with pytest.raises(UsageError, match=r"expected section\.key=value"):
        load_config(environment={}, flags=["timeout"])


@pytest.mark.parametrize(
    ("given_address", "meant"),
    [
        ("", ""),
        ("9464", "127.0.0.1:9464"),
        (":9464", "127.0.0.1:9464"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("localhost:1", "localhost:1"),
        ("[::1]:9464", "[::1]:9464"),
    ],
)
def test_a_metrics_address_without_a_host_is_on_loopback(given_address: str, meant: str) -> None:
    config = load_config(environment={}, flags=[f"metrics.address={given_address}"])
    assert config.metrics.address == meant


def test_a_file_that_is_no_utf_8_is_said(tmp_path: Path) -> None:
    (tmp_path / "worker.ini").write_text("[server]\nurl = http://a\n", encoding="utf-16")
    with pytest.raises(UsageError, match=r"worker\.ini is no text in UTF-8; save it as that"):
        load_config(tmp_path / "worker.ini", environment={})


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the configuration file .*missing\.ini"):
        load_config(tmp_path / "missing.ini", environment={})


def test_a_token_comes_from_the_environment_and_is_never_shown() -> None:
    config = load_config(environment={"WORKER_SERVER_TOKEN": "s3cret"})
    assert config.server.token == "s3cret"
    assert "s3cret" not in repr(config)


def test_other_programs_variables_are_left_alone() -> None:
    assert (
        load_config(environment={"WORKER_COUNT": "x", "WORKER_": "y", "PATH": "z"}).server
        == ServerConfig()
    )


def shipped_keys() -> dict[str, dict[str, str]]:
    """Each section of worker.ini with its keys and their values."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(PROJECT / "worker.ini")
    return {name: dict(parser[name]) for name in parser.sections()}


def test_the_shipped_file_has_every_key_with_its_default_and_a_comment() -> None:
    known = {
        section: [key for key in vars(keys) if key != "token"]
        for section, keys in vars(Config()).items()
    }
    assert {section: [*keys] for section, keys in shipped_keys().items()} == known
    shipped = load_config(PROJECT / "worker.ini", environment={})
    assert shipped == Config(database=DatabaseConfig(path=PROJECT / "results.json"))
    lines = (PROJECT / "worker.ini").read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        assert " = " not in line.lstrip("#") or line.startswith("#") or before.startswith("# ")


def test_the_documentation_lists_every_key_with_its_default() -> None:
    table = (PROJECT / "docs/configuration.md").read_text()
    for section, keys in shipped_keys().items():
        for key, value in keys.items():
            shown = f"`{value}`" if value else "(empty)"
            assert f"| `[{section}] {key}` | {shown} | " in table


@given(st.text(), st.text(), st.text())
def test_no_flag_whatever_it_holds_gives_anything_but_a_config_or_a_usage_error(
    section: str, key: str, value: str
) -> None:
    for flag in (
        f"{section}.{key}={value}",
        f"server.url={value}",
        f"worker.id={value}",
        f"database.path={value}",
    ):
        try:
            load_config(environment={}, flags=[flag])
        except UsageError as error:
            assert str(error)


@given(st.floats())
def test_every_accepted_threshold_is_within_0_and_1(value: float) -> None:
    try:
        config = load_config(environment={}, flags=[f"server.fallback_threshold={value}"])
    except UsageError:
        assert not 0 <= value <= 1
    else:
        assert config.server.fallback_threshold == value
