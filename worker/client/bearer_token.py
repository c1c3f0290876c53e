"""The bearer token: from the environment, or from a file that only its owner can read."""

import logging
import os
import re

from worker.client.answers import visible
from worker.config import TOKEN_VARIABLE, ServerConfig
from worker.errors import UsageError
from worker.files import expect_private

logger = logging.getLogger(__name__)

MAX_TOKEN = 8_000
PIECE = 8  # characters in a row that give a token away
MAX_ESCAPES = 3  # one around the other, as of JSON in a URL

_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|%([0-9a-fA-F]{2})|\\(.)")


class BearerToken:
    """The token of our server, as requests carry it and messages hide it.

    Raises UsageError when one is configured and cannot be used.
    """

    def __init__(self, server: ServerConfig) -> None:
        self._server = server
        self._token = read_token(server)

    def read_again(self) -> None:
        """Take what is configured now: the server did not like the one in use."""
        try:
            self._token = read_token(self._server)
        except UsageError as error:
            # The file may just be being replaced: that must not end the daemon.
            logger.warning("%s; the old token stays in use", error)

    def headers(self) -> dict[str, str]:
        """The header that carries it, if there is one."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def hide(self, text: str) -> str:
        """The visible text with *** for the token or a longer piece of it, also when escaped.

        A server may repeat it, whole or cut short, as it is or as JSON or a URL writes it.
        """
        text = visible(text)
        if not self._token:
            return text
        plain = text
        for _ in range(MAX_ESCAPES):
            plain = _ESCAPED.sub(lambda m: m[3] or chr(int(m[1] or m[2], 16)), plain)
        plain = visible(plain)
        size = min(len(self._token), PIECE)
        pieces = {self._token[i : i + size] for i in range(len(self._token) - size + 1)}
        hidden = list(plain)
        for i in range(len(plain) - size + 1):
            if plain[i : i + size] in pieces:
                hidden[i : i + size] = "\0" * size
        return re.sub("\0+", "***", "".join(hidden)) if "\0" in hidden else text


def read_token(server: ServerConfig) -> str | None:
    """The token in force now, or None if none is configured; the environment goes first.

    Raises UsageError that names the file or the variable, never what is in it.
    """
    if server.token is not None:
        return _checked(server.token, TOKEN_VARIABLE)
    if server.token_file is None:
        return None
    source = f"[server] token_file {server.token_file}"
    try:
        with server.token_file.open("rb") as file:
            # Of the opened file: by name, another one could be checked than is read.
            expect_private(os.fstat(file.fileno()), source, server.token_file)
            token = file.read(MAX_TOKEN + 1)
    except OSError as error:
        raise UsageError(f"{source}: cannot be read: {error.strerror}") from error
    return _checked(token.decode("latin-1"), source)


def _checked(token: str, source: str) -> str:
    token = token.strip()
    # Anything else could not go into a header, or would change what the header says.
    if not re.fullmatch(rf"[\x21-\x7e]{{1,{MAX_TOKEN}}}", token):
        raise UsageError(f"{source}: holds no token: one line of visible ASCII without spaces")
    return token
