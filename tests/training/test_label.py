"""`label`: the page over real files: no vote is lost, none is taken from a stranger."""

import csv
import os
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from flask.testing import FlaskClient

from tests.photographs import encode
from tests.processes import Call, start
from worker.errors import Stop, UsageError
from worker.training.dataset import load_split, majority_labels
from worker.training.label import LABEL_NAMES, UNDO, Ballot, create_app, open_ballot
from worker.web import WebServer

HERE = {"Host": "127.0.0.1:5001"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    faces = tmp_path / "faces"
    faces.mkdir()
    for number in range(4):
        (faces / f"{number}.png").write_bytes(encode(".png", np.full((48, 48), number, np.uint8)))
    return faces


@pytest.fixture
def ballot(folder: Path) -> Iterator[Ballot]:
    with open_ballot(folder) as opened:
        yield opened


@pytest.fixture
def client(ballot: Ballot) -> FlaskClient:
    return create_app(ballot).test_client()


def post(client: FlaskClient, path: str, headers: dict[str, str] = HERE, **given: Any) -> Any:
    return client.post(path, data=given, headers=headers)


def votes(folder: Path) -> list[list[str]]:
    with (folder / "votes.csv").open(newline="") as file:
        return [line[:3] for line in csv.reader(file)][1:]


def labels(folder: Path) -> dict[str, list[int]]:
    with (folder / "label.csv").open(newline="") as file:
        return {name: [int(n) for n in counts] for name, _, *counts in csv.reader(file)}


def test_a_vote_is_kept_at_once_and_the_next_face_comes(client: FlaskClient, folder: Path) -> None:
    assert post(client, "/vote", labeller="Ann").json == {
        "face": "0.png",
        "done": 0,
        "total": 4,
    }
    answer = post(client, "/vote", labeller="Ann", face="0.png", label="anger")
    assert answer.json == {"face": "1.png", "done": 1, "total": 4}
    assert votes(folder) == [["0.png", "Ann", "anger"]]
    assert labels(folder) == {"0.png": [0, 0, 0, 0, 10, 0, 0, 0, 0, 0]}
    assert post(client, "/vote", labeller="Bob").json["face"] == "0.png"
    assert client.get("/face/1.png", headers=HERE).data == (folder / "1.png").read_bytes()


def test_each_label_has_its_column(ballot: Ballot, folder: Path) -> None:
    for number, label in enumerate(LABEL_NAMES):
        ballot.vote(f"person {number}", "2.png", label)
    assert labels(folder) == {"2.png": [1] * 10}


def test_few_people_count_as_about_ten(ballot: Ballot, folder: Path) -> None:
    for name, label in (("Ann", "anger"), ("Bob", "anger"), ("Cy", "unknown")):
        ballot.vote(name, "1.png", label)
    assert labels(folder) == {"1.png": [0, 0, 0, 0, 8, 0, 0, 0, 4, 0]}
    ballot.vote("Ann", "0.png", "fear")
    ballot.vote("Bob", "0.png", "anger")
    faces = load_split(folder, "FER2013Train"), load_split(folder, "FER2013Valid")
    found = [int(label) for part in faces for label in majority_labels(part.votes)]
    assert sorted(found) == [-1, 4]  # two who disagree, and anger


def test_undo_takes_back_the_latest_again_and_again(client: FlaskClient, folder: Path) -> None:
    for face, label in (("0.png", "anger"), ("1.png", "fear")):
        post(client, "/vote", labeller="Ann", face=face, label=label)
    post(client, "/vote", labeller="Bob", face="3.png", label="fear")
    assert post(client, "/vote", labeller="Ann", label=UNDO).json == {
        "face": "1.png",
        "done": 1,
        "total": 4,
    }
    assert post(client, "/vote", labeller="Ann", label=UNDO).json["face"] == "0.png"
    assert post(client, "/vote", labeller="Ann", label=UNDO).json == {
        "face": "0.png",
        "done": 0,
        "total": 4,
    }
    assert list(labels(folder)) == ["3.png"]
    assert [line[2] for line in votes(folder)] == ["anger", "fear", "fear", "undo", "undo"]


def test_a_person_goes_on_where_it_stopped(folder: Path) -> None:
    with open_ballot(folder) as first:
        first.vote('Ann, the "first"', "0.png", "anger")
        first.vote('Ann, the "first"', "1.png", "not a face")
        first.vote('Ann, the "first"', "1.png", UNDO)
        first.vote('Ann, the "first"', "0.png", "fear")
    (folder / "label.csv").unlink()
    with open_ballot(folder) as second:
        assert second.votes() == {'Ann, the "first"': {"0.png": "fear"}}
        assert list(labels(folder)) == ["0.png"]


def test_a_line_that_a_power_cut_left_is_dropped(folder: Path) -> None:
    with open_ballot(folder) as first:
        first.vote("Ann", "0.png", "anger")
    with (folder / "votes.csv").open("a") as file:
        file.write("1.png,Ann,fe")
    with open_ballot(folder) as second:
        second.vote("Ann", "2.png", "fear")
        assert second.votes() == {"Ann": {"0.png": "anger", "2.png": "fear"}}
    assert [line[0] for line in votes(folder)] == ["0.png", "2.png"]


def test_pages_open_at_once_lose_nothing(ballot: Ballot, folder: Path) -> None:
    with WebServer(create_app(ballot)) as server, ThreadPoolExecutor(8) as pool:

        def label_all(name: str) -> None:
            with requests.Session() as session:
                for face in ballot.faces:
                    given = {"labeller": name, "face": face, "label": "fear"}
                    assert session.post(f"{server.url}/vote", data=given, timeout=30).ok

        list(pool.map(label_all, [f"person {number // 2}" for number in range(20)]))
    assert len(votes(folder)) == 80  # two pages of each person
    assert labels(folder) == {face: [0] * 6 + [10, 0, 0, 0] for face in ballot.faces}


def test_a_second_label_on_the_folder_is_refused(ballot: Ballot, folder: Path) -> None:
    with pytest.raises(UsageError, match="another `label` has it"), open_ballot(folder):
        pass


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:5001"},
        {**HERE, "Origin": "http://evil.example"},
        {**HERE, "Origin": "http://127.0.0.1:9999"},
        {**HERE, "Origin": "null"},
        {**HERE, "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_page_from_elsewhere_is_refused(
    client: FlaskClient, folder: Path, headers: dict[str, str]
) -> None:
    answer = post(client, "/vote", headers, labeller="Ann", face="0.png", label="anger")
    assert answer.status_code == 403
    assert client.get("/face/0.png", headers=headers).status_code == 403
    assert votes(folder) == []


def test_its_own_page_is_answered(client: FlaskClient) -> None:
    own = {"Host": "localhost:5001", "Origin": "http://localhost:5001"}
    vote = {"labeller": "Ann", "face": "0.png", "label": "anger"}
    assert post(client, "/vote", own, **vote).status_code == 200
    page = client.get("/", headers=HERE)
    assert all(f'data-label="{label}"' in page.text for label in LABEL_NAMES)
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "given",
    [
        {"labeller": "Ann", "face": "../votes.csv", "label": "anger"},
        {"labeller": "Ann", "face": "0.png", "label": "joy"},
        {"labeller": "Ann", "label": "anger"},
        {"labeller": " ", "face": "0.png", "label": "anger"},
        {"labeller": "A\nB", "face": "0.png", "label": "anger"},
        {"labeller": "A" * 41, "face": "0.png", "label": "anger"},
        {"face": "0.png", "label": "anger"},
    ],
)
def test_what_is_no_vote_is_refused(
    client: FlaskClient, folder: Path, given: dict[str, Any]
) -> None:
    assert post(client, "/vote", **given).status_code == 422
    assert votes(folder) == []
    assert client.get("/face/votes.csv", headers=HERE).status_code == 404
    assert client.get("/face/..%2Fvotes.csv", headers=HERE).status_code == 404


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("body", ["[" * 9000, '{"labeller": NaN}', "", "\ud800=%ff", "x=" * 6000])
def test_what_is_no_form_is_refused_without_a_traceback(
    client: FlaskClient, body: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent = body.encode(errors="surrogatepass")
    answer = client.post("/vote", data=sent, content_type=kind, headers=HERE)
    assert answer.status_code == (413 if len(body) > 10_000 else 422)
    assert not caplog.records


@pytest.mark.skipif(os.name != "posix", reason="RLIMIT_FSIZE is POSIX")
def test_a_full_disk_is_told_to_the_labeller_and_leaves_no_half_vote(
    client: FlaskClient, ballot: Ballot, folder: Path
) -> None:

    def vote(face: str) -> Any:
        return post(client, "/vote", labeller="Ann", label="anger", face=face)

    vote("0.png")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    almost = (folder / "votes.csv").stat().st_size + 5
    resource.setrlimit(resource.RLIMIT_FSIZE, (almost, limits[1]))
    try:
        answer = vote("1.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert answer.status_code == 507
    assert "nothing was kept" in answer.text
    assert ballot.votes() == {"Ann": {"0.png": "anger"}}
    assert vote("2.png").status_code == 200
    assert [line[0] for line in votes(folder)] == ["0.png", "2.png"]


def test_agreement_is_shown(client: FlaskClient) -> None:
    for name in ("Ann", "Bob"):
        for face, label in (("0.png", "anger"), ("1.png", "fear")):
            post(client, "/vote", labeller=name, face=face, label=label)
    assert client.get("/agreement", headers=HERE).json == [
        *[["Ann", "2", ""], ["Bob", "2", ""]],
        ["Ann, Bob (Cohen)", "2", "1.00"],
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("label.csv", "x", "was not made by `label`"),
        ("votes.csv", "a,b\nc,d", "line 1: expected the columns file,labeller,label,time"),
        (
            "votes.csv",
            "file,labeller,label,time\n0.png,Ann,joy,now\n",
            "line 2: there is no label joy",
        ),
    ],
)
def test_files_of_others_are_refused_and_left_alone(
    folder: Path, name: str, content: str, message: str
) -> None:
    (folder / name).write_text(content)
    with pytest.raises(UsageError, match=message), open_ballot(folder):
        pass
    assert (folder / name).read_text() == content


@pytest.mark.parametrize(
    ("saved", "encoding"),
    [
        ("file;labeller;label;time\r\n0.png;Ann;anger;now\r\n", "utf-8"),
        ("file,labeller,label,time\r\n0.png,Ann,anger,now\r\n", "utf-8-sig"),
        ("file\tlabeller\tlabel\ttime\r\n0.png\tAnn\tanger\tnow", "utf-16"),
        ("time,file,label,labeller,note\nnow,0.png,anger,Ann,sure\n", "utf-8"),
    ],
    ids=["semicolons", "mark", "UTF-16 without a last line end", "other columns"],
)
def test_votes_that_a_spreadsheet_saved_are_gone_on_with(
    folder: Path, saved: str, encoding: str
) -> None:
    (folder / "votes.csv").write_bytes(saved.encode(encoding))
    for face in ("1.png", "2.png"):
        with open_ballot(folder) as ballot:
            ballot.vote("Bob", face, "fear")
    with open_ballot(folder) as ballot:
        expected = {"Ann": {"0.png": "anger"}, "Bob": {"1.png": "fear", "2.png": "fear"}}
        assert ballot.votes() == expected
    assert votes(folder)[0] == ["0.png", "Ann", "anger"]


def test_a_folder_without_faces_is_said(tmp_path: Path, call: Call) -> None:
    done = call("label", "nowhere")
    assert done.returncode == 2
    assert "nowhere: there is no face in it" in done.stderr


def test_a_link_out_of_the_folder_is_no_face(folder: Path, tmp_path: Path) -> None:
    (folder / "0.png").rename(tmp_path / "secret.png")
    (folder / "0.png").symlink_to(tmp_path / "secret.png")
    (folder / "._1.png").touch()
    with open_ballot(folder) as ballot:
        assert ballot.faces == ["1.png", "2.png", "3.png"]
        answer = create_app(ballot).test_client().get("/face/0.png", headers=HERE)
    assert answer.status_code == 404


def test_each_label_is_explained(client: FlaskClient) -> None:
    page = client.get("/", headers=HERE).text
    meanings = page.split('<dl id="meanings">')[1].split("</dl>")[0]
    assert meanings.count("<dd>") == len(LABEL_NAMES)
    assert all(f"</kbd> {label}</dt>" in meanings for label in LABEL_NAMES)


def test_a_folder_that_cannot_be_written_is_said(folder: Path) -> None:
    (folder / "votes.csv.lock").mkdir()
    with pytest.raises(Stop, match="cannot write"), open_ballot(folder):
        pass


def test_the_command_serves_the_page_and_ends_with_the_figures(folder: Path) -> None:
    process = start(folder.parent, "label", "faces", "--port", "0")
    assert process.stdout is not None
    url = process.stdout.readline().split()[3].rstrip(";")
    given = {"labeller": "Ann", "face": "0.png", "label": "anger"}
    assert requests.post(f"{url}/vote", data=given, timeout=30).ok
    process.send_signal(signal.SIGTERM)
    shown, log = process.communicate(timeout=30)
    assert (process.returncode, shown) == (0, "Ann\t1\t\n")
    assert "Traceback" not in log
