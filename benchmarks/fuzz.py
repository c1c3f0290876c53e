"""Damaged images against the worker's own `Pipeline`, in a child process that is watched.

Each file is a small picture in one of five formats (JPEG, PNG, WEBP, BMP, TIFF, each in several
variants), damaged in one to three ways: cut short, bits turned, numbers replaced, its width or
height changed, pieces copied, moved or taken from another file; in PNG, whose chunks carry a check
sum, it is often made right again. The same --seed gives the same files.

    python benchmarks/fuzz.py --files 20000 --seed 0

Fails (exit code 1, and the file is kept under --keep) where the child ends, needs more than 2 s of
CPU time or 20 s in all, raises anything but ImageLost, passes 1 GB of memory, or where a decoder
writes control characters to standard error, as the daemon's log would then hold them.
"""

import argparse
import io
import json
import multiprocessing
import os
import random
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from worker.config import load_config
from worker.demo_server.sample_images import sample_images

MAX_CPU = 2.0  # seconds for one file
MAX_WALL = 20.0  # seconds: other programs may use the processor as well
MAX_MEMORY = 1_000_000  # KiB, all that the child holds
WIDTH, HEIGHT = 123, 107  # so odd that the two are easily found in a header

Seeds = dict[str, list[bytes]]


def make_seeds() -> Seeds:
    """Pictures to damage, by format: a face, and drawn noise and slopes, in many variants."""
    face = Image.open(io.BytesIO(sample_images()[0].content)).crop((140, 20, 340, 195))
    random_numbers = np.random.default_rng(0)
    noise = random_numbers.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    slope = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) % 256
    rgb = face.resize((WIDTH, HEIGHT))
    gray, palette, bits = rgb.convert("L"), rgb.convert("P"), rgb.convert("1")
    alpha = Image.fromarray(noise, "RGBA")
    deep = Image.fromarray((slope * 257).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the side
    exif[0x010E] = "a description"
    variants: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("JPEG", rgb, {"exif": exif}),
        ("JPEG", rgb, {"progressive": True}),
        ("JPEG", rgb, {"subsampling": 0, "restart_marker_rows": 1}),
        ("JPEG", gray, {}),
        ("JPEG", rgb.convert("CMYK"), {}),
        *(("PNG", image, {}) for image in (rgb, gray, palette, bits, alpha, deep)),
        ("PNG", rgb, {"exif": exif}),
        ("PNG", palette, {"transparency": 3}),
        ("WEBP", rgb, {}),
        ("WEBP", rgb, {"lossless": True, "exif": exif}),
        ("WEBP", alpha, {}),
        ("WEBP", rgb, {"save_all": True, "append_images": [alpha]}),
        *(("BMP", image, {}) for image in (rgb, gray, palette, bits, alpha)),
        *(("TIFF", image, {}) for image in (rgb, gray, palette, bits, alpha, deep)),
        *(
            ("TIFF", rgb, {"compression": name})
            for name in ("packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg")
        ),
        ("TIFF", bits, {"compression": "group4"}),
        ("TIFF", rgb, {"save_all": True, "append_images": [gray]}),
    ]
    seeds: Seeds = {}
    for kind, image, how in variants:
        file = io.BytesIO()
        image.save(file, kind, **how)
        seeds.setdefault(kind, []).append(file.getvalue())
    return seeds


def damaged(seeds: Seeds, kind: str, chance: random.Random) -> bytes:
    """One of the seeds of this format, damaged."""
    data = bytearray(chance.choice(seeds[kind]))
    for _ in range(chance.randint(1, 3)):
        if len(data) > 1:
            chance.choice(DAMAGES)(data, chance, seeds)
    if kind == "PNG" and chance.random() < 0.7:
        _mend_checksums(data)
    return bytes(data)


def _cut(data: bytearray, chance: random.Random, _: Seeds) -> None:
    del data[chance.randrange(1, len(data)) :]


def _turn_bits(data: bytearray, chance: random.Random, _: Seeds) -> None:
    for _bit in range(2 ** chance.randrange(8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _edit_head(data: bytearray, chance: random.Random, _: Seeds) -> None:
    for _byte in range(chance.randint(1, 4)):
        data[chance.randrange(min(len(data), 200))] = chance.randrange(256)


def _number(data: bytearray, chance: random.Random, _: Seeds) -> None:
    _write_number(
        data, chance.randrange(len(data)), chance.choice(("<I", ">I", "<H", ">H")), chance
    )


def _size(data: bytearray, chance: random.Random, _: Seeds) -> None:
    """Change what looks like the width or the height, or WEBP's, which are one less."""
    side = chance.choice((WIDTH, HEIGHT, WIDTH - 1, HEIGHT - 1))
    forms = ["<I", ">I", "<H", ">H"]
    chance.shuffle(forms)
    for form in forms:
        if (at := data.find(struct.pack(form, side))) >= 0:
            _write_number(data, at, form, chance)
            return


def _write_number(data: bytearray, at: int, form: str, chance: random.Random) -> None:
    bits = struct.calcsize(form) * 8
    edge = 1 << chance.randrange(bits)
    value = chance.choice((0, edge, edge - 1, -edge, chance.randrange(1 << bits), 20_000))
    packed = struct.pack(form, value % (1 << bits))
    data[at : at + len(packed)] = packed


def _move_piece(data: bytearray, chance: random.Random, seeds: Seeds) -> None:
    """Copy a piece of this file, or of another of any format, over or into this one."""
    source = (
        bytes(data) if chance.random() < 0.6 else chance.choice(chance.choice([*seeds.values()]))
    )
    start, at = chance.randrange(len(source)), chance.randrange(len(data))
    piece = source[start : start + 2 ** chance.randrange(2, 12)]
    data[at : at + len(piece) * chance.randrange(2)] = piece


def _drop_piece(data: bytearray, chance: random.Random, _: Seeds) -> None:
    at = chance.randrange(len(data))
    del data[at : at + 2 ** chance.randrange(10)]


DAMAGES = (_cut, _turn_bits, _edit_head, _number, _size, _size, _move_piece, _drop_piece)


def _mend_checksums(data: bytearray) -> None:
    """Give each chunk of a PNG that still has one the check sum that fits it."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4


def analyze_all(pipe: Connection, said: str) -> None:
    """The child: analyse what comes; answer what came of it, CPU seconds, and KiB at most so far.

    ``said``: the file that gets what decoders write to standard error.
    """
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    from worker.analysis.pipeline import Pipeline
    from worker.errors import ImageLost

    pipeline = Pipeline(load_config(environment={}))
    pipe.send(("ready", 0.0, 0))
    while True:
        content = pipe.recv_bytes()  # also an empty one: damage may leave nothing of a file
        started = time.process_time()
        try:
            pipeline.analyze(content)
            outcome = "analyzed"
        except ImageLost as lost:
            outcome = lost.kind
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure to report
            outcome = f"raised {error!r}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send((outcome, time.process_time() - started, peak))


class Watched:
    """A child that analyses one file after another, and is started again after each failure."""

    def __init__(self, folder: Path) -> None:
        self.said = folder / "stderr"
        self._heard = 0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=analyze_all, args=(child, str(self.said)))
        self._process.start()
        child.close()
        self._pipe.recv()

    def analyze(self, content: bytes) -> tuple[str, float, int, str]:
        """What came of it, CPU seconds, peak KiB, and what is wrong with that; "": nothing."""
        self._pipe.send_bytes(content)
        try:
            if not self._pipe.poll(MAX_WALL):
                outcome, cpu, peak, wrong = "hung", MAX_WALL, 0, "hang"
            else:
                outcome, cpu, peak = self._pipe.recv()
                wrong = "hang" if cpu > MAX_CPU else "memory" if peak > MAX_MEMORY else ""
        except EOFError:
            self._process.join()
            outcome, cpu, peak = f"exit code {self._process.exitcode}", 0.0, 0
            wrong = "crash"
        said = self.said.read_bytes()[self._heard :]
        self._heard += len(said)
        if any((byte < 32 and byte not in b"\n") or byte == 127 for byte in said):
            wrong = wrong or "control characters"
        if outcome.startswith("raised"):
            wrong = "exception"
        if wrong in ("crash", "hang", "memory"):  # a peak is one for the life of a process
            self.end()
            self._start()
        return outcome, cpu, peak, wrong

    def end(self) -> None:
        self._process.kill()
        self._process.join()


@dataclass
class Tally:
    """What came of the files of one format."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    peak: int = 0


def fuzz(files: int, seed: int, keep: Path) -> dict[str, Any]:
    """Run it; returns the figures. What fails is written to ``keep``."""
    seeds = make_seeds()
    tallies = {kind: Tally() for kind in seeds}
    kept = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        child = Watched(Path(folder))
        for number in range(files):
            kind = [*seeds][number % len(seeds)]
            content = damaged(seeds, kind, random.Random(f"{seed} {number}"))
            outcome, cpu, peak, wrong = child.analyze(content)
            tally = tallies[kind]
            tally.outcomes[outcome] += 1
            tally.slowest, tally.peak = max(tally.slowest, cpu), max(tally.peak, peak)
            if wrong:
                tally.failures[wrong] += 1
                keep.mkdir(parents=True, exist_ok=True)
                file = keep / f"{seed}-{number}.{kind.lower()}"
                file.write_bytes(content)
                kept.append(str(file))
                print(f"{file}: {wrong}: {outcome}, {cpu:.1f} s, {peak / 1000:.0f} MB", flush=True)
        lines = child.said.read_bytes().count(b"\n")
        child.end()
    return {
        "files": files,
        "seed": seed,
        "seconds": round(time.monotonic() - started),
        "stderr_lines": lines,
        "kept": kept,
        "formats": {
            kind: {
                "outcomes": dict(tally.outcomes),
                "failures": dict(tally.failures),
                "slowest_cpu_s": round(tally.slowest, 3),
                "peak_mb": round(tally.peak / 1000),
            }
            for kind, tally in tallies.items()
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="damaged images against the worker's pipeline")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="for files that fail")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    options = parser.parse_args()
    figures = fuzz(options.files, options.seed, options.keep)
    print(f"{'format':8}{'analysed':>9}{'lost':>7}{'failed':>8}{'slowest s':>11}{'peak MB':>9}")
    for kind, of_kind in figures["formats"].items():
        outcomes = of_kind["outcomes"]
        good, failed = outcomes.get("analyzed", 0), sum(of_kind["failures"].values())
        print(
            f"{kind:8}{good:9}{sum(outcomes.values()) - good:7}{failed:8}"
            f"{of_kind['slowest_cpu_s']:11}{of_kind['peak_mb']:9}"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if figures["kept"] else 0


if __name__ == "__main__":
    sys.exit(main())
