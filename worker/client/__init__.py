"""HTTP with the server: pull an image, pull the threshold, post a result.

`ServerClient` is the worker's side of it and `PulledImage` what it brings. `read_offer` reads what
a server, or a message, says about an image; `read_token` the token that both sides share.
"""

from worker.client.answers import read_offer
from worker.client.bearer_token import read_token
from worker.client.images import PulledImage
from worker.client.server_client import ServerClient

__all__ = ["PulledImage", "ServerClient", "read_offer", "read_token"]
