"""What the tests of the reference server send to it, over real HTTP, and the time they let pass."""

from typing import Any

import requests
from werkzeug.http import parse_options_header

LEASE = 60.0
WORKER_ACCEPT = {"Accept": "image/*, application/json"}
JPEG = b"\xff\xd8 the bytes of a picture"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def pull(url: str, **headers: str) -> requests.Response:
    return requests.get(f"{url}/image", headers=WORKER_ACCEPT | headers, timeout=10)


def pull_all(url: str) -> list[str]:
    """The names of all images that one worker gets before it hears that nothing waits."""
    names = []
    while (answer := pull(url)).status_code == 200:
        names.append(name_of(answer))
    return names


def name_of(answer: requests.Response) -> str:
    return parse_options_header(answer.headers["Content-Disposition"])[1]["filename"]


def record_of(task_id: str, **changes: Any) -> dict[str, Any]:
    face = {"face_id": 1, "anger": 0.94, "bbox": ["71", "48", "154", "131"]}
    record = {"file_name": "a.jpg", "threshold": 0.2, "faces": [face], "task_id": task_id}
    return {**record, "worker": "w1", "image_size": [225, 225], **changes}


def post(url: str, record: Any, **headers: str) -> requests.Response:
    key = {"Idempotency-Key": record["task_id"]} if isinstance(record, dict) else {}
    return requests.post(f"{url}/results", json=record, headers=key | headers, timeout=10)


def put_threshold(url: str, body: bytes) -> requests.Response:
    return requests.put(f"{url}/threshold", data=body, timeout=10)


def get(url: str) -> Any:
    return requests.get(url, timeout=10).json()
