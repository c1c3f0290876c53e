"""What an append that was interrupted can leave in place of a file's closing `}}`.

An append replaces this `}}`, at byte ``at`` of the file, by the next document and a new `}}`, in
plain ASCII. A kill or a full disk may cut it short. After a power cut each sector of it holds the
new bytes or the old ones, and beyond the former end of the file the old ones are zeros.

Anything else is damage that no append of ours did: nothing of it may be cut off.
"""

import json
import re

SECTOR = 512  # bytes; the least that a disk writes as a whole
_PLAIN = re.compile(rb"[ -~\0]*")
_BEGUN = re.compile(rb'(?:, ?)?(?:"(\d*)(?:"(?::(?: (?:\{[ -~]*)?)?)?)?)?\}?')
_ZEROS = re.compile(rb"\0+")


def is_torn(tail: bytes, at: int) -> bool:
    """Whether one append under way can have left ``tail``: all that follows the last document that
    is whole, which ends at byte ``at``."""
    if tail == b"}" or tail.startswith(b"}}"):
        return True  # the former ending, or a half of it; whatever a lost sector left behind it
    if (at + 1) % SECTOR == 0 and b"}" in (tail[:1], tail[1:2]):
        return True  # the former ending lies in two sectors, one of which is lost
    begun = _BEGUN.fullmatch(tail.partition(b"\0")[0])
    if not begun or not _PLAIN.fullmatch(tail):
        return False
    if begun[1] and b'}, "%d": {' % (int(begun[1]) + 1) in tail:
        return False  # more than one append
    if b"\0" in tail:
        return all(_is_lost(*run.span(), at, len(tail)) for run in _ZEROS.finditer(tail))
    return not tail.endswith(b"}}}") or _ends_early(tail.decode(), at)


def _is_lost(start: int, end: int, at: int, size: int) -> bool:
    """Whether zeros from byte ``start`` to ``end`` of the tail are sectors that never came."""
    if end == size:
        return True
    return (start == 2 or (at + start) % SECTOR == 0) and (at + end) % SECTOR == 0


def _ends_early(tail: str, at: int) -> bool:
    """Whether a document that happens to be cut off behind `}}}` has nothing wrong but its end.

    If this lies within a text, somebody may just have lost the closing quote; so it counts only at
    the end of a sector.
    """
    try:
        json.JSONDecoder().raw_decode(tail, tail.index("{"))
    except json.JSONDecodeError as error:
        in_text = error.msg.startswith("Unterminated string") and (at + len(tail)) % SECTOR == 0
        return error.pos == len(tail) or in_text
    return False
