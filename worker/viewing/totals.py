"""What the report says of all records, kept as sums: a million of them take little memory."""

import math
from array import array
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from worker.record import EMOTIONS, Record, ranked_emotions
from worker.terminal import safe
from worker.viewing.results import parse_time

LATEST = 50
MOST_FACES = 20  # an image with more counts as one with this many
# Minutes, hours, days, about months and years that one bar may stand for.
WIDTHS = (1, 5, 15, 60, 180, 720, 1440, 7 * 1440, 30 * 1440, 365 * 1440)
MOST_BARS, FEWEST_BARS = 120, 24
YEARS = range(1970, 2200)  # what a clock that was set says
NO_EMOTION = "none"  # a face for which no emotion reached the threshold
TOPS = (*EMOTIONS, NO_EMOTION)


@dataclass
class WorkerTotals:
    """What one worker did; ``elapsed``: milliseconds of each analysis."""

    images: int = 0
    faces: int = 0
    errors: int = 0
    elapsed: "array[float]" = field(default_factory=lambda: array("d"))


class Totals:
    """Counts, distributions and the latest records.

    ``times``: of the images, seconds since 1970 (UTC); ``face_times`` and ``tops``: of each face of
    these, and which of TOPS it has. ``probabilities``: how many faces were stored with each value,
    in hundredths. ``thresholds``: how many images each was in force for. ``not_numbers``: how many
    values are NaN or infinite, and so in no distribution.
    """

    def __init__(self) -> None:
        self.images = self.faces = self.not_numbers = 0
        self.times, self.face_times, self.tops = array("d"), array("d"), array("b")
        self.emotions: Counter[str] = Counter()
        self.faces_an_image: Counter[int] = Counter()
        self.probabilities = [0] * 101
        self.thresholds: Counter[float] = Counter()
        self.errors: Counter[str] = Counter()
        self.workers: dict[str, WorkerTotals] = {}
        self.networks: Counter[str] = Counter()
        self.latest: deque[Record] = deque(maxlen=LATEST)

    def add(self, record: Record) -> None:
        """Count one record of ours."""
        faces = record["faces"]
        worker = self.workers.setdefault(safe(record.get("worker", "-")), WorkerTotals())
        self.images += 1
        self.faces += len(faces)
        worker.images += 1
        worker.faces += len(faces)
        self.networks[safe(record.get("network", "-"))] += 1
        if "error" in record:
            self.errors[safe(record["error"]["type"])] += 1
            worker.errors += 1
        else:
            self.faces_an_image[min(len(faces), MOST_FACES)] += 1
        if self._is_number(record.get("threshold")):
            self.thresholds[round(record["threshold"], 2)] += 1
        if self._is_number(record.get("elapsed_ms")):
            worker.elapsed.append(record["elapsed_ms"])
        self._add_faces(record)
        self.latest.append(record)

    def _add_faces(self, record: Record) -> None:
        time = parse_time(record["processed_at"]) if "processed_at" in record else None
        seconds = time.timestamp() if time and time.year in YEARS else None
        if seconds is not None:
            self.times.append(seconds)
        for face in record["faces"]:
            named = [pair for pair in ranked_emotions(face) if self._is_number(pair[1])]
            for _, value in named:
                self.probabilities[min(max(round(100 * value), 0), 100)] += 1
            top = named[0][0] if named else NO_EMOTION
            self.emotions[top] += 1
            if seconds is not None:
                self.face_times.append(seconds)
                self.tops.append(TOPS.index(top))

    def _is_number(self, value: float | None) -> bool:
        if value is None:
            return False
        self.not_numbers += not math.isfinite(value)
        return math.isfinite(value)

    def elapsed(self) -> NDArray[np.float64]:
        """Milliseconds of every analysis, those of all workers."""
        return np.concatenate([np.zeros(0), *(each.elapsed for each in self.workers.values())])


def count_records(records: Iterable[Record]) -> Totals:
    """Sum up records of ours (`worker.viewing.results.checked`)."""
    totals = Totals()
    for record in records:
        totals.add(record)
    return totals


def time_bars(totals: Totals) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The bars that show the whole time: FEWEST_BARS, in the middle of which a short time stands,
    to MOST_BARS or one more.

    Returns where each begins and the last one ends, minutes since 1970, ``(bars + 1,)``; and the
    images in each, then its faces by TOPS: ``(1 + tops, bars)``.
    """
    first, last = (int(end // 60) for end in (min(totals.times), max(totals.times)))
    width = next((width for width in WIDTHS if last - first <= width * MOST_BARS), WIDTHS[-1])
    begin, end = first // width, last // width + 1
    missing = max(0, FEWEST_BARS - (end - begin))
    edges = np.arange(begin - missing // 2, end + missing - missing // 2 + 1) * width
    faces, tops = np.array(totals.face_times), np.array(totals.tops)
    several = [np.array(totals.times), *(faces[tops == number] for number in range(len(TOPS)))]
    return edges, np.array([np.histogram(times, edges * 60)[0] for times in several])
