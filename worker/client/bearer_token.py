"""The bearer token: from the environment, or from a file that only its owner can read."""

import os
import re

from worker.config import TOKEN_VARIABLE, ServerConfig
from worker.errors import UsageError
from worker.files import expect_private

MAX_TOKEN = 8_000


def read_token(server: ServerConfig) -> str | None:
    """The token in force now, or None where none is configured; the environment goes first.

    Raises UsageError that names the file or the variable, never what is in it.
    """
    if server.token is not None:
        return _checked(server.token.get_secret_value(), TOKEN_VARIABLE)
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
