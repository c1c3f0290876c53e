"""What the tests of the client share."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

from tests.scripted_server import Reply
from worker.client import PulledImage, ServerClient

PATIENCE = 60.0  # seconds; bounds a hang, decides nothing
DEADLINE = 0.5  # seconds; for servers that would take for ever, and so always pass it
PNG = {"Content-Type": "image/png"}
TEXT = {"Content-Type": "text/plain"}
NOTHING_NEW = b"HTTP/1.1 204 No Content\r\n\r\n"
TOKEN = "s3cr3t-t0k3n"  # of no server
RECORD = {"file_name": "ü.png", "threshold": 0.2, "faces": [], "task_id": "task-1"}

NewClient = Callable[..., ServerClient]


def pulled(client: ServerClient) -> PulledImage:
    """The image that must come now."""
    image = client.pull_image()
    assert image is not None
    return image


def lost(client: ServerClient) -> str:
    """Why the image that must come now can never be analysed, in one word."""
    image = pulled(client)
    assert image.problem is not None
    assert (image.content, image.threshold) == (b"", None)
    return image.problem.kind


def json_reply(**document: Any) -> Reply:
    return Reply(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
