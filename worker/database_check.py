"""`results --verify`: what a check of the whole database found."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from worker.database_index import Index
from worker.database_reader import IMAGES, Broken, task_id_of, unusable, walk


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


def compare(family: Iterable[Path], index: Index) -> tuple[int, bool]:
    """Read all documents of all files, oldest first, beside the index.

    Returns their number, and whether the index has all of them and no more. Raises DatabaseUnusable
    for what is no TinyDB file.
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
    return documents, agrees and next(places, None) is None
