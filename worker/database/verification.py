"""What commands ask of a whole database: whether it is sound, and what became of each post."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from worker.database.index import State, text_of

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
    index_agrees: bool
    duplicates: int
    missing: int
    owed: int

    @property
    def sound(self) -> bool:
        """Whether each task has one record; all else is repaired by now."""
        return not self.duplicates and not self.missing

    def lines(self) -> list[str]:
        """What was found, for a person."""
        known = {None: "no", 0: "no, but the last line had no end: mended"}
        torn = known.get(self.torn_bytes, f"yes; {self.torn_bytes} bytes moved to .torn")
        return [
            f"documents: {self.documents} in {self.files} file{'s' * (self.files > 1)}",
            f"torn tail: {torn}",
            f"tasks recorded before: {self.duplicates}",
            f"tasks whose record is missing: {self.missing}",
            f"index: {'agrees' if self.index_agrees else 'did not agree; made again'}",
            f"results still to post: {self.owed}",
        ]


def posting_states(path: Path) -> Iterator[tuple[str, str, str | None]]:
    """Task id, "owed", "posted" or "refused", and why, of each post of the database ``path``,
    oldest first; read-only, also while a worker runs. Nothing if there is no readable sidecar.
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
                yield text_of(task_id) or "", State(state).name.lower(), text_of(reason)
    except (sqlite3.Error, TypeError, ValueError) as error:
        logger.warning("%s: cannot read what was posted: %s", sidecar, error)
