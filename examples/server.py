"""The smallest server: it gives each picture of a folder away once. `python server.py DIR PORT`"""

import sys
from pathlib import Path

import flask

app = flask.Flask(__name__)
pictures = sorted(Path(sys.argv[1]).resolve().iterdir())


@app.get("/image")
def image() -> flask.typing.ResponseReturnValue:
    return flask.send_file(pictures.pop(), as_attachment=True) if pictures else ("", 204)


@app.get("/threshold")
def threshold() -> flask.typing.ResponseReturnValue:
    return {"threshold": 0.35}


app.run(port=int(sys.argv[2]), threaded=False)
