"""What the daemon and its child processes say to each other: four bytes of length, then as many.

Answers are JSON, since nobody should unpickle what comes from a process that reads hostile bytes.
"""

import socket

LONGEST = 100_000_000  # bytes; a longer message is none of ours


def send(channel: socket.socket, message: bytes) -> None:
    channel.sendall(len(message).to_bytes(4))
    channel.sendall(message)


def receive(channel: socket.socket) -> bytes:
    """Raises EOFError when the other side has ended, ValueError for a length that cannot be."""
    length = int.from_bytes(_read(channel, 4))
    if length > LONGEST:
        raise ValueError(f"a message of {length} bytes")
    return _read(channel, length)


def _read(channel: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        piece = channel.recv(min(count - len(content), 1 << 20))
        if not piece:
            raise EOFError
        content += piece
    return bytes(content)
