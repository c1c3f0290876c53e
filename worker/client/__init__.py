"""HTTP with the server: pull an image, pull the threshold, post a result.

`ServerClient` is the worker's side of it and `PulledImage` what it brings; `read_token` gives the
token that both sides share.
"""

from worker.client.answers import PulledImage
from worker.client.bearer_token import read_token
from worker.client.server_client import ServerClient

__all__ = ["PulledImage", "ServerClient", "read_token"]
