"""What the report says of all records, kept as sums: a million of them take little memory."""

import math
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.record import EMOTIONS, Record, ranked_emotions
from worker.viewing.results import parse_time

LATEST = 50
MOST_FACES = 20  # an image with more counts as one with this many
# Minutes, hours, days, about months and years that one bar may stand for.
WIDTHS = (1, 5, 15, 60, 180, 720, 1440, 7 * 1440, 30 * 1440, 365 * 1440)
MOST_BARS, FEWEST_BARS = 120, 24
YEARS = range(1970, 2200)  # what a clock that was set says
Floats: TypeAlias = "array[float]"
TOPS = (*EMOTIONS, "none")  # for none of them the threshold was reached


class Totals:
    """Counts, distributions and the latest records.

    ``images``, ``faces``, ``errors``: how many, by worker; ``elapsed``: milliseconds of each
    analysis, by worker. ``times``: of the images, seconds since 1970 (UTC); ``face_times``: of
    their faces, by the surest emotion. ``probabilities``: how many faces were stored with each
    value, in hundredths. ``thresholds``: how many images each was in force for. ``not_numbers``:
    how many values are NaN or infinite, and so in no distribution.
    """

    def __init__(self) -> None:
        self.images, self.faces, self.errors = Counter[str](), Counter[str](), Counter[str]()
        self.elapsed = defaultdict[str, Floats](lambda: array("d"))
        self.times, self.face_times = array("d"), {name: array("d") for name in TOPS}
        self.emotions, self.kinds, self.networks = Counter[str](), Counter[str](), Counter[str]()
        self.faces_an_image, self.probabilities = Counter[int](), [0] * 101
        self.thresholds, self.not_numbers = Counter[float](), 0
        self.latest = deque[Record](maxlen=LATEST)

    def add(self, record: Record) -> None:
        """Count one record of ours."""
        worker, count = str(record.get("worker", "-")), len(record["faces"])
        self.images[worker] += 1
        self.faces[worker] += count
        self.networks[str(record.get("network", "-"))] += 1
        if "error" in record:
            self.errors[worker] += 1
            self.kinds[record["error"]["type"]] += 1
        else:
            self.faces_an_image[min(count, MOST_FACES)] += 1
        if self._is_number(record.get("threshold")):
            self.thresholds[round(record["threshold"], 2)] += 1
        if self._is_number(record.get("elapsed_ms")):
            self.elapsed[worker].append(record["elapsed_ms"])
        self._add_faces(record)
        self.latest.append(record)

    def _add_faces(self, record: Record) -> None:
        time = parse_time(record.get("processed_at", "0001-01-01"))
        times = [time.timestamp()] if time.year in YEARS else []
        self.times.extend(times)
        for face in record["faces"]:
            named = [pair for pair in ranked_emotions(face) if self._is_number(pair[1])]
            for _, value in named:
                self.probabilities[min(max(round(100 * value), 0), 100)] += 1
            top = named[0][0] if named else TOPS[-1]
            self.emotions[top] += 1
            self.face_times[top].extend(times)

    def _is_number(self, value: float | None) -> bool:
        if value is None:
            return False
        self.not_numbers += not math.isfinite(value)
        return math.isfinite(value)


def count_records(records: Iterable[Record]) -> Totals:
    """Sum up records of ours (`worker.viewing.results.checked`)."""
    totals = Totals()
    for record in records:
        totals.add(record)
    return totals


def time_bars(totals: Totals) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    """The bars that show the whole time: FEWEST_BARS, in the middle of which a short time stands,
    to MOST_BARS or one more.

    Returns where each begins and the last one ends, minutes since 1970, ``(bars + 1,)``; and how
    many ``images``, and faces of each of TOPS, are in each: ``(bars,)``.
    """
    first, last = (int(end // 60) for end in (min(totals.times), max(totals.times)))
    width = next((width for width in WIDTHS if last - first <= width * MOST_BARS), WIDTHS[-1])
    begin, end = first // width, last // width + 1
    missing = max(0, FEWEST_BARS - (end - begin))
    edges = np.arange(begin - missing // 2, end + missing - missing // 2 + 1) * width
    series = {"images": totals.times, **totals.face_times}
    return edges, {name: np.histogram(times, edges * 60)[0] for name, times in series.items()}
