"""`label`: a small page on which people name the emotion of one face after the other.

Every vote is a line that is added to votes.csv, and no line is ever changed. What counts is made
from it: label.csv, the FER+ table that `train` reads.
"""

import csv
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout
from flask import Flask, Response, abort, render_template, request, send_file
from flask.typing import ResponseReturnValue

from worker.errors import Stop, UsageError
from worker.record import EMOTIONS, utc_now
from worker.training.agreement import agreement_rows
from worker.training.tables import LABELS, read_named_rows, write_labels, write_rows
from worker.web import guard

VOTES = "votes.csv"
COLUMNS = ("file", "labeller", "label", "time")
HEADING = f"{','.join(COLUMNS)}\n".encode()
LABEL_NAMES = (*EMOTIONS, "unknown", "not a face")  # in the order of FER+'s columns
KEYS = dict(zip((*"12345678", "u", "n"), LABEL_NAMES, strict=True))
UNDO = "undo"  # in the place of a label: the labeller takes back what was said of this face
FULL_VOTES = 10  # FER+ had ten people for each face
LONGEST_NAME = 40
POLICY = (
    "default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'"
)


class Ballot:
    """The votes on the faces of a folder: of each labeller the latest one on a face. Each call may
    come from any thread. Votes on faces that are gone stay in the file, and do not count.

    ``faces``: names of PNG files. Raises OSError, and UsageError for a votes.csv that is not ours.
    """

    def __init__(self, folder: Path, faces: list[str]) -> None:
        self.folder, self.faces = folder, faces
        self._path, self._mutex, self._known = folder / VOTES, Lock(), frozenset(faces)
        self._votes: dict[str, dict[str, str]] = {}  # of each labeller, the latest one last
        if not self._path.exists():
            write_rows(self._path, [COLUMNS])
        next(read_named_rows(self._path, *COLUMNS), None)  # another program's is left as it is
        saved_elsewhere = not self._path.read_bytes().startswith(HEADING)
        if not saved_elsewhere:
            self._drop_torn_line()
        kept = []
        for line, row in read_named_rows(self._path, *COLUMNS):
            if row["label"] not in (*LABEL_NAMES, UNDO):
                raise UsageError(f"{self._path}, line {line}: there is no label {row['label']}")
            self._count(row["labeller"], row["file"], row["label"])
            kept.append([row[name] for name in COLUMNS])
        if saved_elsewhere:  # as by a spreadsheet, with semicolons: our lines would not fit below
            write_rows(self._path, [COLUMNS, *kept])
        self._write_labels()

    def vote(self, labeller: str, face: str, label: str) -> None:
        """Keep a vote, or with `UNDO` take it back; it is on disk when this returns. Raises OSError
        or Stop if it could not be kept."""
        with self._mutex:
            self._append(face, labeller, label, utc_now())
            self._count(labeller, face, label)
            self._write_labels()

    def votes(self) -> dict[str, dict[str, str]]:
        """A copy of what every labeller said of every face, the latest last."""
        with self._mutex:
            return {name: dict(cast) for name, cast in self._votes.items() if cast}

    def _append(self, *values: str) -> None:
        self._drop_torn_line()
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(values)
            file.flush()
            os.fsync(file.fileno())

    def _drop_torn_line(self) -> None:
        """What a power cut or a full disk left without its end was never confirmed to anybody."""
        os.truncate(self._path, self._path.read_bytes().rfind(b"\n") + 1)

    def _count(self, labeller: str, face: str, label: str) -> None:
        cast = self._votes.setdefault(labeller, {})
        cast.pop(face, None)
        if label != UNDO and face in self._known:
            cast[face] = label

    def _write_labels(self) -> None:
        """label.csv: the faces with votes, ten counts each.

        FER+ drops single votes as noise, and had ten people. If fewer have seen a face, each of
        them counts as several, so that they are about ten again: one person's word is enough to
        train on, and two who disagree leave no majority.
        """
        counts = {}
        for face in self.faces:
            if labels := [cast[face] for cast in self._votes.values() if face in cast]:
                weight = -(-FULL_VOTES // len(labels))
                counts[face] = [weight * labels.count(name) for name in LABEL_NAMES]
        write_labels(self.folder, counts)


@contextmanager
def open_ballot(folder: Path) -> Iterator[Ballot]:
    """The ballot of a folder, which no other process has meanwhile.

    Raises UsageError for a folder without faces, one that another process has, or files there that
    are not ours; Stop if it cannot be written to.
    """
    # What a link shows of another folder is not for a page.
    own = (path for path in folder.glob("*.png") if path.resolve().parent == folder.resolve())
    faces = sorted(p.name for p in own if p.name.isprintable() and p.name == p.name.lstrip(" ."))
    if not faces:
        raise UsageError(f"{folder}: there is no face in it (PNG files, as `crop` makes them)")
    if (folder / LABELS).exists() and not (folder / VOTES).exists():
        raise UsageError(
            f"{folder / LABELS} was not made by `label`, which would replace it; move it away"
        )
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(folder / f"{VOTES}.lock", timeout=0, thread_local=False))
            ballot = Ballot(folder.resolve(), faces)
        except Timeout:
            raise UsageError(f"{folder}: another `label` has it; stop that one first") from None
        except OSError as error:
            raise Stop(f"{folder}: cannot write there: {error.strerror}") from error
        yield ballot


def create_app(ballot: Ballot) -> Flask:
    """The page over a ballot. It answers this machine's own browser only."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 10_000  # bytes
    app.wsgi_app = guard(app.wsgi_app, POLICY)  # type: ignore[assignment, method-assign]

    @app.errorhandler(OSError)
    @app.errorhandler(Stop)
    def not_kept(error: Exception) -> ResponseReturnValue:
        return Response(f"nothing was kept: {error}", 507, mimetype="text/plain")

    @app.get("/")
    def page() -> str:
        return render_template("label.html", keys=KEYS, longest=LONGEST_NAME)

    @app.get("/face/<name>")
    def face(name: str) -> ResponseReturnValue:
        if name not in ballot.faces:
            abort(404)
        return send_file(ballot.folder / name, mimetype="image/png")

    @app.get("/agreement")
    def agreement() -> ResponseReturnValue:
        return [*agreement_rows(ballot.votes())]

    @app.post("/vote")
    def vote() -> ResponseReturnValue:
        """Keep what a labeller says of a face, or take the latest back, or neither; then say which
        is the first face without a vote, and how far the labeller is."""
        asked = ("labeller", "face", "label")
        name, face, label = (request.form.get(key, "") for key in asked)
        name = name.strip()
        if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
            abort(422, f"a labeller's name has 1 to {LONGEST_NAME} printable characters")
        if label == UNDO:
            face = next(reversed(ballot.votes().get(name, {})), "")
        elif label and (face not in ballot.faces or label not in LABEL_NAMES):
            abort(422, "no such face, or no such label")
        if label and face:
            ballot.vote(name, face, label)
        cast = ballot.votes().get(name, {})
        left = (face for face in ballot.faces if face not in cast)
        return {"face": next(left, None), "done": len(cast), "total": len(ballot.faces)}

    return app
