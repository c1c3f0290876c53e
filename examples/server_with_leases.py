"""A server that loses no picture: it offers each again until its result came, 60 s after it was
last given away. `python server_with_leases.py DIR PORT`"""

import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import flask

LEASE = 60.0  # seconds

app = flask.Flask(__name__)
pictures = sorted(Path(sys.argv[1]).resolve().iterdir())
given_away: dict[str, float] = {}
results: dict[str, Any] = {}


@app.get("/image")
def image() -> flask.typing.ResponseReturnValue:
    for picture in pictures:
        # A name alone would stand for other bytes when the file is replaced.
        task = f"{quote(picture.name)}-{picture.stat().st_mtime_ns}"
        if task not in results and time.monotonic() - given_away.get(task, -LEASE) >= LEASE:
            given_away[task] = time.monotonic()
            answer = flask.send_file(picture, as_attachment=True)
            answer.headers["X-Task-Id"] = task
            return answer
    return "", 204


@app.get("/threshold")
def threshold() -> flask.typing.ResponseReturnValue:
    return {"threshold": 0.35}


@app.post("/results")
def result() -> flask.typing.ResponseReturnValue:
    record = flask.request.get_json()
    results[record["task_id"]] = record
    print(f"{record['file_name']}: {len(record['faces'])} faces", flush=True)
    return "", 204


app.run(port=int(sys.argv[2]))
