"""A server that always shows a camera's latest picture; one that was seen is not sent again.
`python webcam_server.py SOURCE PORT`; SOURCE: a camera's number, or a video file"""

import sys

import cv2
import flask

app = flask.Flask(__name__)
source = sys.argv[1]
camera = cv2.VideoCapture(int(source) if source.isdecimal() else source)


@app.get("/image")
def image() -> flask.typing.ResponseReturnValue:
    there, picture = camera.read()
    if not there:
        return "", 204
    answer = flask.Response(cv2.imencode(".jpg", picture)[1].tobytes(), mimetype="image/jpeg")
    answer.add_etag()
    return answer.make_conditional(flask.request)


@app.get("/threshold")
def threshold() -> flask.typing.ResponseReturnValue:
    return {"threshold": 0.35}


app.run(port=int(sys.argv[2]), threaded=False)
