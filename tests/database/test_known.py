"""One visit before an analysis: what is known of a task; and what a repeated offer gives back."""

from pathlib import Path

from worker.database import Database, Known, Owed

RECORD = {"file_name": "a.jpg", "threshold": 0.2, "faces": [], "task_id": "t1"}


def test_a_recorded_task_is_known_by_the_digest_of_its_image(tmp_path: Path) -> None:
    with Database(tmp_path / "results.json", owe=True) as database:
        assert database.known("t1") is None
        assert database.append(RECORD, digest="ab" * 32)
        assert database.known("t1") == Known(digest="ab" * 32, owed=True)
        database.settle("t1")
        assert database.known("t1") == Known(digest="ab" * 32, owed=False)
        assert database.append({**RECORD, "task_id": "t2"})
        assert database.known("t2") == Known(digest=None, owed=True)


def test_a_repeated_offer_gives_back_what_to_post_with_its_lease(tmp_path: Path) -> None:
    with Database(tmp_path / "results.json", owe=True) as database:
        database.append(RECORD, lease_id="first")
        database.settle("t1")
        assert database.owe_again("t1", "second") == Owed("t1", "second", RECORD)
        assert database.known("t1") == Known(digest=None, owed=True)
        assert database.owe_again("unknown", None) is None


def test_nothing_is_to_be_posted_while_posting_is_off(tmp_path: Path) -> None:
    with Database(tmp_path / "results.json") as database:
        database.append(RECORD)
        assert database.owe_again("t1", "lease") is None
        assert database.known("t1") == Known(digest=None, owed=False)
