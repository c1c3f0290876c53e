"""One poll against a real server and a real file; only the analysis itself is played."""

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.daemon.played import (
    HANG,
    NOTHING,
    THRESHOLD,
    Clock,
    FillableDatabase,
    PlayedAnalysts,
    asked,
    configure,
    image,
    keys,
    records,
    tasks,
)
from tests.scripted_server import Reply, ScriptedServer
from worker.client import ServerClient
from worker.daemon.backoff import Backoff
from worker.daemon.hand import Hand
from worker.daemon.metrics import Metrics
from worker.daemon.poller import Found, Poller
from worker.daemon.poster import Poster
from worker.errors import DiskRefuses, ImageLost, RetryLater, Stop
from worker.record import Analysis

OWED = "server.results_path=/results"


class Bench:
    """A poller, its scripted server and its file."""

    def __init__(self, server: ScriptedServer, folder: Path, *flags: str) -> None:
        config = configure(folder, server.url, *flags)
        self.server, self.folder, self.clock = server, folder, Clock(tick=1)
        self.analysts, self.hand, self.metrics = PlayedAnalysts(), Hand(), Metrics("custom_net")
        self.database = FillableDatabase(config.database.path, owe=OWED in flags)
        client = ServerClient(config.server, "w1")
        waits = Backoff("posting", 60, draw=lambda low, high: high, clock=self.clock)
        tools = client, self.database, self.metrics
        self.poster = Poster(*tools, waits, ThreadPoolExecutor(1))
        self.poller = Poller(
            *tools, config, self.analysts, self.poster, self.hand, clock=self.clock
        )
        server.script("/threshold", THRESHOLD)

    def polls(self, count: int) -> list[Found]:
        return [self.poller.poll() for _ in range(count)]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture
def bench(server: ScriptedServer, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(server, tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def posting(server: ScriptedServer, tmp_path: Path) -> Iterator[Bench]:
    """A bench that owes its results to the server, which takes them."""
    made = Bench(server, tmp_path, OWED)
    server.script("/results", Reply(201))
    yield made
    made.database.close()


def test_an_image_is_analysed_and_its_record_is_in_the_file(bench: Bench) -> None:
    bench.server.script("/image", image("t1", X_File_Name="angry.png"), NOTHING)
    assert bench.poller.poll() is Found.IMAGE
    (record,) = records(bench.folder)
    assert record["file_name"] == "angry.png"
    assert record["threshold"] == 0.3
    assert record["faces"] == [
        {"face_id": 1, "anger": 0.75, "bbox": ["1", "2", "31", "32"], "confidence": 1.0}
    ]
    assert (record["task_id"], record["worker"]) == ("t1", "w1")
    assert record["network"] == "custom_net"
    assert bench.poller.poll() is Found.NOTHING
    assert bench.hand.images == {}


def test_the_threshold_is_asked_for_each_image_that_brings_none(bench: Bench) -> None:
    bench.server.script("/image", image("t1"), image("t2", X_Threshold="0.9"), image("t3"), NOTHING)
    bench.server.script("/threshold", THRESHOLD, Reply(body=b"0.7"))
    bench.polls(3)
    assert [record["threshold"] for record in records(bench.folder)] == [0.3, 0.9, 0.7]


def test_an_image_that_can_not_be_analysed_gives_an_error_record(bench: Bench) -> None:
    bench.analysts.outcome = ImageLost("not_an_image", "its 6 bytes do not decode")
    bench.server.script("/image", image("t1"), NOTHING)
    assert bench.polls(2) == [Found.IMAGE, Found.NOTHING]
    (record,) = records(bench.folder)
    assert record["faces"] == []
    assert record["error"] == {"type": "not_an_image", "message": "its 6 bytes do not decode"}


def test_what_is_wrong_with_an_image_before_it_is_analysed_is_recorded_too(bench: Bench) -> None:
    body = json.dumps({"task_id": "t1", "image": "not base64!"}).encode()
    bench.server.script("/image", Reply(body=body, headers={"Content-Type": "application/json"}))
    assert bench.poller.poll() is Found.IMAGE
    assert [record["error"]["type"] for record in records(bench.folder)] == ["bad_base64"]
    assert bench.analysts.analysed == []


class TestAnImageInHandIsNeverThrownAway:
    @pytest.mark.parametrize(
        "fault",
        [Reply(500), Reply(403), Reply(body=b'{"value": 0.4}'), Reply(body=b"abc"), Reply(302)],
        ids=lambda reply: f"{reply.status} {reply.body.decode()}",
    )
    def test_for_a_fault_of_the_threshold_which_alone_is_asked_for_again(
        self, bench: Bench, fault: Reply
    ) -> None:
        # Given a server that gives each image away once, and no threshold three times
        bench.server.script("/image", image("t1"), NOTHING)
        bench.server.script("/threshold", fault, fault, fault, THRESHOLD)
        # When it is polled
        for _ in range(3):
            with pytest.raises(RetryLater):
                bench.poller.poll()
            assert (len(bench.hand.kept), len(bench.hand.images)) == (1, 1)
        assert bench.analysts.analysed == []
        # Then the image is recorded once there is a threshold, without another pull
        assert bench.poller.poll() is Found.IMAGE
        assert [record["threshold"] for record in records(bench.folder)] == [0.3]
        assert len(asked(bench.server, "/image")) == 1
        assert len(asked(bench.server, "/threshold")) == 4
        assert (len(bench.hand.kept), len(bench.hand.images)) == (0, 0)

    def test_for_a_full_disk_and_its_record_is_stored_before_anything_new_is_pulled(
        self, bench: Bench
    ) -> None:
        bench.server.script("/image", image("t1"), NOTHING)
        bench.database.full = True
        for _ in range(2):
            with pytest.raises(DiskRefuses, match="no space left"):
                bench.poller.poll()
        bench.database.full = False
        assert bench.poller.poll() is Found.IMAGE
        assert tasks(bench.folder) == ["t1"]
        assert len(bench.analysts.analysed) == 1
        assert len(asked(bench.server, "/image")) == 1

    def test_for_an_analysis_that_cannot_be_started_now(self, bench: Bench) -> None:
        class NoMemory(PlayedAnalysts):
            def analyze(self, content: bytes) -> Analysis:
                if not self.analysed:
                    self.analysed.append(content)
                    raise RetryLater("no memory for a process")
                return super().analyze(content)

        poller = Poller(**{**vars(bench.poller), "analysts": NoMemory()})
        bench.server.script("/image", image("t1"), NOTHING)
        with pytest.raises(RetryLater, match="no memory"):
            poller.poll()
        assert poller.poll() is Found.IMAGE
        assert len(asked(bench.server, "/image")) == 1

    @pytest.mark.parametrize(
        ("before", "expected", "says"),
        [
            (THRESHOLD, 0.3, "threshold 0.3, the last one that the server gave"),
            (Reply(500), 0.5, "threshold 0.5, [server] fallback_threshold"),
        ],
        ids=["one was given before", "none was ever given"],
    )
    def test_when_the_daemon_ends_first(
        self,
        bench: Bench,
        caplog: pytest.LogCaptureFixture,
        before: Reply,
        expected: float,
        says: str,
    ) -> None:
        bench.server.script("/image", image("t1"), image("t2"), NOTHING)
        bench.server.script("/threshold", before, Reply(500))
        for _ in range(2):
            try:
                bench.poller.poll()
            except RetryLater:
                continue
        assert len(bench.hand.kept) == 1
        bench.poller.record_kept()
        assert records(bench.folder)[-1]["threshold"] == expected
        assert bench.hand.images == {}
        assert [r.getMessage() for r in caplog.records if says in r.getMessage()]

    def test_and_what_the_disk_does_not_take_in_the_end_is_named(self, bench: Bench) -> None:
        bench.server.script("/image", image("t1"), NOTHING)
        bench.database.full = True
        with pytest.raises(DiskRefuses):
            bench.poller.poll()
        with pytest.raises(Stop, match="task t1 is not recorded: no space left"):
            bench.poller.record_kept()


class TestARepeatedTask:
    def test_is_never_analysed_again_not_even_after_a_restart(
        self, server: ScriptedServer, tmp_path: Path
    ) -> None:
        server.script("/image", image("t1"))
        first = Bench(server, tmp_path)
        first.poller.poll()
        first.database.close()
        second = Bench(server, tmp_path)
        second.polls(3)
        assert second.analysts.analysed == []
        assert len(records(tmp_path)) == 1
        second.database.close()

    def test_counts_as_nothing_new_if_nothing_is_owed(self, bench: Bench) -> None:
        """So that a server that always shows its latest picture is polled once an interval."""
        bench.server.script("/image", *[image("t1")] * 4, image("t2"))
        assert bench.poller.poll() is Found.IMAGE
        for _ in range(3):
            bench.hand.drained()
            assert bench.poller.poll() is Found.NOTHING
        assert bench.poller.poll() is Found.IMAGE
        assert tasks(bench.folder) == ["t1", "t2"]

    def test_counts_as_nothing_new_also_if_its_result_was_taken_long_ago(
        self, posting: Bench
    ) -> None:
        posting.server.script("/image", image("t1"))
        assert posting.poller.poll() is Found.IMAGE
        assert posting.poller.poll() is Found.AGAIN  # owed, and posted for that
        found = []
        for _ in range(3):
            posting.hand.drained()
            found.append(posting.poller.poll())
        assert found == [Found.NOTHING] * 3

    def test_does_not_keep_the_worker_busy_in_turns_with_another_and_is_hinted_at_once(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.server.script("/image", *[image("t1"), image("t2")] * 10)
        found = bench.polls(20)
        assert found.count(Found.NOTHING) >= 5
        assert len(records(bench.folder)) == 2
        hints = [r for r in caplog.records if "keep coming back" in r.getMessage()]
        assert len(hints) == 1

    def test_whose_result_is_owed_is_posted_at_once_with_its_new_lease_and_asked_again(
        self, posting: Bench
    ) -> None:
        posting.server.script("/image", image("t1", X_Lease_Id="l1"), image("t1", X_Lease_Id="l2"))
        assert posting.polls(2) == [Found.IMAGE, Found.AGAIN]
        assert keys(posting.server) == ["t1"]
        assert asked(posting.server, "/results")[0].headers["X-Lease-Id"] == "l2"
        assert posting.database.owed_count() == 0

    def test_whose_result_the_server_does_not_take_ends_the_drain(self, posting: Bench) -> None:
        posting.server.script("/image", image("t1"))
        posting.server.script("/results", Reply(500))
        assert posting.polls(3) == [Found.IMAGE, Found.UNPOSTED, Found.UNPOSTED]
        assert posting.poster.backoff.left() > 0

    def test_that_was_offered_before_its_result_arrived_is_no_sign_that_there_is_nothing_new(
        self, posting: Bench
    ) -> None:
        """Given a poll whose answer is under way while the result is posted, and posted again."""
        under_way, go_on = threading.Event(), threading.Event()

        def late(_: object) -> Reply:
            under_way.set()
            assert go_on.wait(HANG)
            return image("t1")

        posting.server.script("/image", image("t1"), late, image("t1"))
        assert posting.poller.poll() is Found.IMAGE
        with ThreadPoolExecutor(1) as threads:
            overtaken = threads.submit(posting.poller.poll)
            assert under_way.wait(HANG)
            posting.poster.step()
            assert posting.poller.poll() is Found.AGAIN
            go_on.set()
            assert overtaken.result() is Found.AGAIN
        assert posting.poller.poll() is Found.NOTHING  # it was asked for after all that

    def test_with_other_bytes_is_warned_of_once_and_not_analysed(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        other = image("t1", b"other pixels")
        bench.server.script("/image", image("t1"), image("t1"), other, other, image("t2"))
        bench.polls(5)
        warnings = [r.getMessage() for r in caplog.records if "other bytes" in r.getMessage()]
        assert len(warnings) == 1
        assert warnings[0].startswith("task=t1 ")
        assert bench.analysts.analysed == [b"pixels", b"pixels"]  # those of t2

    def test_that_another_poll_has_in_hand_is_left_to_it_and_the_latest_lease_counts(
        self, posting: Bench
    ) -> None:
        posting.server.script("/image", image("t1", X_Lease_Id="l1"), image("t1", X_Lease_Id="l2"))
        begun, go_on = threading.Event(), threading.Event()

        class Slow(PlayedAnalysts):
            def analyze(self, content: bytes) -> Analysis:
                begun.set()
                assert go_on.wait(HANG)
                return super().analyze(content)

        slow = Slow()
        poller = Poller(**{**vars(posting.poller), "analysts": slow})
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(poller.poll)
            assert begun.wait(HANG)
            assert poller.poll() is Found.IN_HAND
            go_on.set()
            assert first.result() is Found.IMAGE
        assert len(slow.analysed) == 1
        assert tasks(posting.folder) == ["t1"]
        posting.poster.step()
        assert asked(posting.server, "/results")[0].headers["X-Lease-Id"] == "l2"


class TestTheETag:
    def test_goes_back_only_once_its_record_is_on_disk(self, bench: Bench) -> None:
        bench.server.script("/image", image("t1", ETag='"e1"'), image("t2"), image("t3"))
        bench.database.full = True
        with pytest.raises(DiskRefuses):
            bench.poller.poll()
        bench.database.full = False
        bench.polls(2)
        sent = [r.headers.get("If-None-Match") for r in asked(bench.server, "/image")]
        assert sent == [None, '"e1"']

    def test_of_a_task_recorded_before_a_restart_goes_back_as_well(
        self, server: ScriptedServer, tmp_path: Path
    ) -> None:
        server.script("/image", image("t1", ETag='"e1"'))
        for _ in range(2):
            bench = Bench(server, tmp_path)
            bench.polls(2)
            bench.database.close()
        sent = [r.headers.get("If-None-Match") for r in asked(server, "/image")]
        assert sent == [None, '"e1"', None, '"e1"']


def test_the_log_has_one_line_an_image(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench.server.script("/image", image("t1", X_File_Name="angry.png"))
    bench.poller.poll()
    assert [r.getMessage() for r in caplog.records if r.name == "worker.daemon.poller"] == [
        "task=t1 file=angry.png faces=1 ms=12.3 outcome=stored"
    ]
