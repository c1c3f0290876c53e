"""worker/openapi.json is true: the reference server does what it says, and nothing else.

Every check that schemathesis has is on.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode

from worker.demo_server.app import MAX_RECORD_BYTES, create_app
from worker.demo_server.image_queue import MemoryQueue
from worker.web import WebServer

TOKEN = "s3cret"

QUEUE = MemoryQueue()
APP = create_app(QUEUE)
# A request that is valid but for a header or a parameter nobody described must be accepted: proxies
# add such. Schemathesis would count it as invalid, so it does not make any.
CONFIG = schemathesis.Config.from_dict({"generation": {"allow-extra-parameters": False}})
SCHEMA = schemathesis.openapi.from_wsgi("/openapi.json", APP, config=CONFIG)


@SCHEMA.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    # Records are large to generate on a busy machine; what is found there is worth the wait.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_whatever_is_sent_the_answer_is_as_described(case: schemathesis.Case[Any]) -> None:
    """Given any request, valid or not, when it is sent, then no check of schemathesis fails."""
    task_id = QUEUE.add(b"image", "a.jpg", "image/jpeg")
    if case.operation.label == "POST /results" and _is_valid(case) and isinstance(case.body, dict):
        # OpenAPI cannot say "a task of the queue", which the key and the record must both name.
        case.body["task_id"] = case.headers["Idempotency-Key"] = task_id
    case.call_and_validate()


def _is_valid(case: schemathesis.Case[Any]) -> bool:
    return case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = create_app(QUEUE, token=TOKEN)
    with WebServer(app) as server:
        yield server.url


Sample = tuple[str, str, int, Mapping[str, str], Any]
UNKNOWN_TASK = "6f1c7e0e-6c0a-4a8e-9c55-000000000000"


def _samples() -> Iterator[Sample]:
    """A request for every answer that is described: method, path, status, headers, body."""
    QUEUE.add(b"image", "image one.jpg", threshold=0.2)
    for method, path in _described():
        yield method, path, 401, {"Authorization": "Bearer wrong"}, None
    yield "GET", "/", 200, {}, None
    yield "GET", "/openapi.json", 200, {}, None
    yield "GET", "/image", 200, {"Accept": "image/*, application/json"}, None
    while QUEUE.lease():
        pass
    yield "GET", "/image", 204, {}, None
    yield "GET", "/threshold", 200, {}, None
    yield "PUT", "/threshold", 200, {}, b'{"threshold": 0.5}'
    yield "PUT", "/threshold", 400, {}, b'{"threshold": 7}'
    yield "PUT", "/threshold", 413, {}, b" " * (MAX_RECORD_BYTES + 1)
    task_id = QUEUE.add(b"image", "a.jpg")
    for status, sent in ((201, task_id), (409, task_id), (410, UNKNOWN_TASK)):
        yield "POST", "/results", status, {"Idempotency-Key": sent}, _record(sent)
    yield "POST", "/results", 400, {}, b"{"
    yield "POST", "/results", 413, {}, b" " * (MAX_RECORD_BYTES + 1)
    yield "POST", "/results", 422, {"Idempotency-Key": task_id}, b"{}"
    yield "GET", "/results", 200, {}, None


def _record(task_id: str) -> bytes:
    face = {"face_id": 1, "anger": 0.9, "bbox": ["0", "0", "9", "9"]}
    record = {"file_name": "a", "threshold": 0.5, "faces": [face], "task_id": task_id}
    return json.dumps({**record, "worker": "w"}).encode()


def test_every_answer_that_is_described_is_given_as_described(url: str) -> None:
    """Given a request for each, when it is sent, then status, headers and body are as said."""
    given = set()
    for method, path, status, headers, body in _samples():
        sent = {"Authorization": f"Bearer {TOKEN}", **headers}
        answer = requests.request(method, url + path, headers=sent, data=body, timeout=10)
        assert (method, path, answer.status_code) == (method, path, status)
        SCHEMA[path][method].validate_response(answer)
        given.add((method, path, str(status)))
    assert given == {
        (method, path, status)
        for (method, path), operation in _described().items()
        for status in operation["responses"]
    }


def test_every_path_is_described() -> None:
    """Given the server's own table of paths, then the description has the same, by method."""
    served = {
        (method, rule.rule)
        for rule in APP.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }
    assert served == set(_described())


def _described() -> dict[tuple[str, str], dict[str, Any]]:
    """The operations of the description, by method and path."""
    return {
        (method.upper(), path): operation
        for path, methods in SCHEMA.raw_schema["paths"].items()
        for method, operation in methods.items()
    }
