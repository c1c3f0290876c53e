"""What commands ask of a whole database: whether it is sound, and what became of each post."""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from worker.database.index import Index, State, text_of
from worker.database.reader import Documents, task_id_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verification:
    """What `verify` found. ``torn_bytes``: of an interrupted append, cut off and kept aside; None
    if the file ended well.

    ``duplicates``: records whose task is recorded before. ``missing``: tasks that were recorded,
    but whose records are in no file. ``index_agrees``: False if the sidecar had to be made again.
    """

    files: int
    documents: int
    torn_bytes: int | None
    duplicates: int
    missing: int
    index_agrees: bool
    owed: int

    @property
    def sound(self) -> bool:
        """Whether each task has one record; all else is repaired by now."""
        return not self.duplicates and not self.missing

    def lines(self) -> list[str]:
        """What was found, for a person."""
        torn = "no" if self.torn_bytes is None else f"yes; {self.torn_bytes} bytes moved to .torn"
        return [
            f"documents: {self.documents} in {self.files} file{'s' * (self.files > 1)}",
            f"torn tail: {torn}",
            f"tasks recorded before: {self.duplicates}",
            f"tasks whose record is missing: {self.missing}",
            f"index: {'agrees' if self.index_agrees else 'did not agree; made again'}",
            f"results still to post: {self.owed}",
        ]


def check(family: Sequence[Path], index: Index, torn_bytes: int | None) -> Verification:
    """Read all documents of all files, oldest first, beside the index.

    Raises DatabaseUnusable for what is no TinyDB file.
    """
    documents, agrees, places = 0, True, index.all_places()
    for path in family:
        for entry in Documents(path):
            documents += 1
            place = next(places, None)
            agrees &= place is not None and (place.name, place.at, place.task_id) == (
                *(path.name, entry.at),
                task_id_of(entry.document),
            )
    return Verification(
        files=len(family),
        documents=documents,
        torn_bytes=torn_bytes,
        duplicates=index.duplicates(),
        missing=index.missing(),
        index_agrees=agrees and next(places, None) is None,
        owed=index.owed_count(),
    )


def posting_states(path: Path) -> Iterator[tuple[str, str, str | None]]:
    """Task id, "owed", "posted" or "refused", and why, of each post of the database ``path``,
    oldest first; read-only, also while a worker runs. Nothing where there is no readable sidecar.
    """
    path = path.resolve()
    sidecar = path.with_name(f"{path.name}.index")
    if not sidecar.exists():
        return
    try:
        with closing(sqlite3.connect(f"{sidecar.as_uri()}?mode=ro", uri=True)) as db:
            for task_id, state, reason in db.execute(
                "SELECT task_id, state, reason FROM records WHERE state > 0 ORDER BY seq"
            ):
                named = State(state).name.lower()
                yield text_of(task_id) or "", named, text_of(reason)
    except (sqlite3.Error, ValueError) as error:
        logger.warning("%s: cannot read what was posted: %s", sidecar, error)
