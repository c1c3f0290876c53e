"""The bearer token: from the environment, or from a file that only its owner can read."""

import os
import re

from worker.client.answers import visible
from worker.config import TOKEN_VARIABLE, ServerConfig
from worker.errors import UsageError
from worker.files import expect_private

MAX_TOKEN = 8_000
PIECE = 8  # characters in a row that give a token away
MAX_ESCAPES = 3  # one around the other, as of JSON in a URL

_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|%([0-9a-fA-F]{2})|\\(.)")


def hide_token(text: str, token: str | None) -> str:
    """The visible text, or *** if it holds the token or a longer piece of it, also escaped.

    A server may repeat it, whole or cut short, as it is or as JSON or a URL writes it.
    """
    text = plain = visible(text)
    if token is None:
        return text
    for _ in range(MAX_ESCAPES):
        plain = _ESCAPED.sub(lambda m: m[3] or chr(int(m[1] or m[2], 16)), plain)
    size = min(len(token), PIECE)
    return "***" if _pieces(visible(plain), size) & _pieces(token, size) else text


def read_token(server: ServerConfig) -> str | None:
    """The token in force now, or None if none is configured; the environment goes first.

    Raises UsageError that names the file or the variable, never what is in it.
    """
    if server.token is not None:
        source, token = TOKEN_VARIABLE, server.token
    elif server.token_file is not None:
        source = f"[server] token_file {server.token_file}"
        try:
            with server.token_file.open("rb") as file:
                # Of the opened file: by name, another one could be checked than is read.
                expect_private(os.fstat(file.fileno()), source, server.token_file)
                token = file.read(MAX_TOKEN + 1).decode("latin-1")
        except OSError as error:
            raise UsageError(f"{source}: cannot be read: {error.strerror}") from error
    else:
        return None
    token = token.strip()
    # Anything else could not go into a header, or would change what the header says.
    if not re.fullmatch(rf"[\x21-\x7e]{{1,{MAX_TOKEN}}}", token):
        raise UsageError(f"{source}: holds no token: one line of visible ASCII without spaces")
    return token


def _pieces(text: str, size: int) -> set[str]:
    return {text[i : i + size] for i in range(len(text) - size + 1)}
