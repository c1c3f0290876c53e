"""What commands ask of a whole database: whether it is sound, and what became of each post."""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from worker.database.index import Index, State, text_of
from worker.database.reader import IMAGES, Broken, task_id_of, unusable, walk

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verification:
    """What `verify` found. ``torn_bytes``: of an interrupted append, cut off and kept aside; None
    where the file ended well.

    ``duplicates``: records whose task is recorded before. ``index_agrees``: False where the sidecar
    had to be made again.
    """

    files: int
    documents: int
    torn_bytes: int | None
    duplicates: int
    index_agrees: bool
    owed: int

    @property
    def sound(self) -> bool:
        """Whether each task has one record; all else is repaired by now."""
        return not self.duplicates

    def lines(self) -> list[str]:
        """What was found, for a person."""
        torn = "no" if self.torn_bytes is None else f"yes; {self.torn_bytes} bytes moved to .torn"
        return [
            f"documents: {self.documents} in {self.files} file{'s' * (self.files > 1)}",
            f"torn tail: {torn}",
            f"tasks recorded before: {self.duplicates}",
            f"index: {'agrees' if self.index_agrees else 'did not agree; made again'}",
            f"results still to post: {self.owed}",
        ]


def check(family: Sequence[Path], index: Index, torn_bytes: int | None) -> Verification:
    """Read all documents of all files, oldest first, beside the index.

    Raises DatabaseUnusable for what is no TinyDB file.
    """
    documents, agrees, places = 0, True, index.all_places()
    for path in family:
        with path.open("rb") as file:
            try:
                for entry in walk(file):
                    if entry.table != IMAGES or entry.doc_id is None:
                        continue
                    documents += 1
                    task_id = task_id_of(entry.document)
                    if task_id is not None:
                        place = next(places, None)
                        agrees &= place is not None and (
                            (place.name, place.task_id) == (path.name, task_id)
                            and place.at <= entry.at < entry.end <= place.at + place.size
                        )
            except Broken as broken:
                raise unusable(path, broken) from None
    return Verification(
        files=len(family),
        documents=documents,
        torn_bytes=torn_bytes,
        duplicates=index.duplicates(),
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
                "SELECT task_id, state, reason FROM posts JOIN records USING (seq) ORDER BY seq"
            ):
                named = State(state).name.lower()
                yield text_of(task_id), named, None if reason is None else text_of(reason)
    except sqlite3.Error as error:
        logger.warning("%s: cannot read what was posted: %s", sidecar, error)
