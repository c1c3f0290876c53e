"""`label`: a small page on which people name the emotion of one face after the other.

Every vote is a line that is added to votes.csv, and no line is ever changed. What counts is made
from it: label.csv, the FER+ table that `train` reads.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, Self

from filelock import BaseFileLock, FileLock, Timeout
from flask import Flask, Response, abort, render_template, request, send_file
from flask.typing import ResponseReturnValue

from worker.errors import Stop, UsageError
from worker.files import replace_file
from worker.record import EMOTIONS, utc_now
from worker.training.agreement import Votes, agreement_rows
from worker.web import guard, parse_json

VOTES, LABELS = "votes.csv", "label.csv"
COLUMNS = ("file", "labeller", "label", "time")
LABEL_NAMES = (*EMOTIONS, "unknown", "not a face")  # in the order of FER+'s columns
KEYS = dict(zip((*"12345678", "u", "n"), LABEL_NAMES, strict=True))
UNDO = "undo"  # in the place of a label: the labeller takes back what was said of this face
FULL_VOTES = 10  # FER+ had ten people for each face
BOX = "(0, 0, 48, 48)"
LONGEST_NAME = 40
POLICY = (
    "default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'"
)


class Ballot:
    """The faces of a folder and the votes on them. Each call may come from any thread; one process
    has a folder at a time, until `close` or the end of ``with``.

    ``faces``: names of PNG files. A labeller has one vote on a face: the latest.

    Raises UsageError for a folder without faces, one that another process has, or files there that
    are not ours; Stop if it cannot be written to.
    """

    def __init__(self, folder: Path, *, now: Callable[[], str] = utc_now) -> None:
        self.folder, self._now, self._mutex = folder.resolve(), now, Lock()
        # What a link shows of another folder is not for a page.
        own = (path for path in self.folder.glob("*.png") if path.resolve().parent == self.folder)
        self.faces = sorted(p.name for p in own if p.name.isprintable() and p.name[0] != ".")
        if not self.faces:
            raise UsageError(f"{folder}: there is no face in it (PNG files, as `crop` makes them)")
        self._path = folder / VOTES
        if (folder / LABELS).exists() and not self._path.exists():
            raise UsageError(
                f"{folder / LABELS} was not made by `label`, which would replace it; move it away"
            )
        self._lock: BaseFileLock = FileLock(folder / f"{VOTES}.lock", timeout=0, thread_local=False)
        self._votes: dict[str, dict[str, str]] = {}  # of each labeller, the latest one last
        try:
            self._lock.acquire()
        except Timeout:
            raise UsageError(f"{folder}: another `label` has it; stop that one first") from None
        except OSError as error:
            raise Stop(f"{folder}: cannot write there: {error.strerror}") from error
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.release()

    def vote(self, labeller: str, face: str, label: str) -> None:
        """Keep a vote; it is on disk when this returns. Raises Stop if it could not be kept."""
        with self._mutex:
            self._append(face, labeller, label)

    def undo(self, labeller: str) -> str | None:
        """Take back a labeller's latest vote; returns its face, None if there is no vote left.

        Raises as `vote` does.
        """
        with self._mutex:
            cast = self._votes.get(labeller)
            if not cast:
                return None
            face = next(reversed(cast))
            self._append(face, labeller, UNDO)
            return face

    def next_face(self, labeller: str) -> str | None:
        """The first face on which the labeller has no vote; None if there is none left."""
        with self._mutex:
            cast = self._votes.get(labeller, {})
            return next((face for face in self.faces if face not in cast), None)

    def votes(self) -> Votes:
        """A copy of what every labeller said of every face."""
        with self._mutex:
            return {name: dict(cast) for name, cast in self._votes.items()}

    def _load(self) -> None:
        try:
            with self._path.open("a+b") as file:
                file.seek(0)
                content = file.read()
                # A line that a power cut left without its end was never confirmed to anybody.
                whole = content[: content.rfind(b"\n") + 1]
                file.truncate(len(whole))
                if not whole:
                    whole = _line(COLUMNS)
                    file.write(whole)
        except OSError as error:
            raise Stop(f"cannot write {self._path}: {error.strerror}") from error
        self._size = len(whole)
        lines = csv.reader(io.StringIO(whole.decode("utf-8-sig", errors="replace")))
        for number, line in enumerate(lines, 1):
            if number == 1 and tuple(line) == COLUMNS:
                continue
            if number == 1 or len(line) != len(COLUMNS) or line[2] not in (*LABEL_NAMES, UNDO):
                raise UsageError(f"{self._path}, line {number}: expected {','.join(COLUMNS)}")
            self._count(*line[:3])
        self._write_labels()

    def _append(self, face: str, labeller: str, label: str) -> None:
        line = _line((face, labeller, label, self._now()))
        try:
            with self._path.open("r+b") as file:
                file.truncate(self._size)  # what a full disk left of the one before
                file.seek(self._size)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise Stop(f"cannot write {self._path}: {error.strerror}") from error
        self._size += len(line)
        self._count(face, labeller, label)
        self._write_labels()

    def _count(self, face: str, labeller: str, label: str) -> None:
        cast = self._votes.setdefault(labeller, {})
        cast.pop(face, None)
        if label != UNDO:
            cast[face] = label

    def _write_labels(self) -> None:
        """label.csv: the faces with votes, ten counts each.

        FER+ drops single votes as noise, and had ten people. If fewer have seen a face, each of
        them counts as several, so that they are about ten again: one person's word is enough to
        train on, and two who disagree leave no majority.
        """
        counts: dict[str, Counter[str]] = {}
        for cast in self._votes.values():
            for face, label in cast.items():
                counts.setdefault(face, Counter())[label] += 1
        text = io.StringIO()
        table = csv.writer(text)
        for face in self.faces:
            if votes := counts.get(face):
                weight = -(-FULL_VOTES // votes.total())
                table.writerow((face, BOX, *(weight * votes[name] for name in LABEL_NAMES)))
        replace_file(self.folder / LABELS, text.getvalue().encode())


def create_app(ballot: Ballot) -> Flask:
    """The page over a ballot. It answers this machine's own browser only."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 10_000  # bytes
    faces = frozenset(ballot.faces)

    app.wsgi_app = guard(app.wsgi_app, POLICY)  # type: ignore[assignment, method-assign]

    @app.errorhandler(Stop)
    def not_kept(error: Stop) -> ResponseReturnValue:
        return Response(str(error), 507, mimetype="text/plain")

    @app.get("/")
    def page() -> str:
        return render_template("label.html", keys=KEYS, longest=LONGEST_NAME)

    @app.get("/face/<name>")
    def face(name: str) -> ResponseReturnValue:
        if name not in faces:
            abort(404)
        return send_file(ballot.folder / name, mimetype="image/png")

    @app.get("/next")
    def following() -> ResponseReturnValue:
        return state(_labeller(request.args.get("labeller")))

    @app.post("/vote")
    def vote() -> ResponseReturnValue:
        given = _object()
        labeller = _labeller(given.get("labeller"))
        match given:
            case {"face": str(name), "label": str(label)} if name in faces and label in LABEL_NAMES:
                ballot.vote(labeller, name, label)
            case _:
                abort(422, "no such face, or no such label")
        return state(labeller)

    @app.post("/undo")
    def undo() -> ResponseReturnValue:
        labeller = _labeller(_object().get("labeller"))
        return state(labeller, ballot.undo(labeller))

    @app.get("/agreement")
    def agreement() -> ResponseReturnValue:
        votes = ballot.votes()
        progress = {name: len(faces & cast.keys()) for name, cast in votes.items() if cast}
        return {"labellers": progress, "agreement": agreement_rows(votes)}

    def state(labeller: str, again: str | None = None) -> ResponseReturnValue:
        """What the page shows next: a face (``again``: this one), and how far the labeller is."""
        done = len(faces & ballot.votes().get(labeller, {}).keys())
        return {
            "face": again if again in faces else ballot.next_face(labeller),
            "done": done,
            "total": len(faces),
        }

    return app


def _object() -> dict[str, Any]:
    if not request.is_json:  # but a form, which a page from elsewhere could send
        abort(415, "expected application/json")
    try:
        given = parse_json(request.get_data())
    except ValueError as error:
        abort(400, f"the body is not JSON: {error}")
    if not isinstance(given, dict):
        abort(422, "expected a JSON object")
    return given


def _labeller(name: object) -> str:
    """A labeller's name as it is kept; ends the request if it is none."""
    if not isinstance(name, str) or not 0 < len(name.strip()) <= LONGEST_NAME:
        abort(422, f"a labeller's name has 1 to {LONGEST_NAME} characters")
    if not name.isprintable():
        abort(422, "a labeller's name is printable")
    return name.strip()


def _line(values: tuple[str, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
