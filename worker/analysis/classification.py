"""Which emotion a face shows: a trained network, loaded once, for any number of crops at a time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from worker.analysis.cropping import Picture
from worker.analysis.weights_file import read_weights
from worker.errors import ImageLost, UsageError
from worker.expected import AS_TRAINED, class_weights, parse_expected

BATCH = 16  # faces: bounds the memory that one picture of a crowd can take


class Classifier:
    """A network with its weights, giving calibrated probabilities. Safe for several threads.

    ``classes``: the names that probabilities are given for, in order. ``input_size``: side of the
    crops that it wants, in pixels. ``facts``: what its weights file says of itself. ``expected``:
    how often each class is to be expected, as `[classification] expected`; None: as trained.

    Raises UsageError when the weights file is missing, damaged or no such network, or when
    ``classes`` or ``expected`` names one that the network does not know.
    """

    # How many numbers of a crop each output has after the first.
    other_outputs: tuple[int, ...] = ()

    def __init__(
        self,
        weights: Path,
        classes: Sequence[str] = (),
        threads: int = 1,
        expected: str = AS_TRAINED,
    ) -> None:
        content, self.facts = read_weights(weights)
        self.input_size = self.facts.input_size
        shares = parse_expected(expected)
        for key, names in (("classes", classes), ("expected", shares or ())):
            if unknown := [name for name in names if name not in self.facts.classes]:
                raise UsageError(
                    f"[classification] {key}: {weights} does not know {', '.join(unknown)}; "
                    f"it knows {', '.join(self.facts.classes)}"
                )
        self.classes = tuple(classes) or self.facts.classes
        self.expected = None if shares is None else expected
        weighed = class_weights(shares, self.facts.classes, self.facts.class_shares)
        self._weights = np.array(weighed, np.float32)
        self._widths = [len(self.facts.classes), *self.other_outputs]
        self._columns = [self.facts.classes.index(name) for name in self.classes]
        try:
            self._session = _load(content, threads)
            self._try_out()
        except Exception as error:  # ONNX Runtime's own errors have no common root
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise UsageError(f"{weights} is not a network that can be asked: {why}") from error

    def classify(self, crops: Sequence[Picture] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 ``(n, classes)`` of crops uint8 ``(n, side, side)``; n may be 0.

        Weighed by what is expected; with a subset of the classes, they are then shared among those
        only. Raises ImageLost when the network cannot be asked, for want of memory.
        """
        weighed = self.ask(crops)[0] * self._weights
        chosen = weighed[:, self._columns] + np.finfo(np.float32).tiny
        return np.asarray(chosen / chosen.sum(axis=1, keepdims=True), np.float32)

    def ask(self, crops: Sequence[Picture] | NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """What the network itself gives of crops, as `classify` takes them: the probabilities
        ``(n, its classes)``, and of face_net the boxes ``(n, 3)``. Raises as `classify`."""
        batches = [[np.empty((0, width), np.float32) for width in self._widths]]
        try:
            for at in range(0, len(crops), BATCH):
                feed = {self._session.get_inputs()[0].name: np.stack(list(crops[at : at + BATCH]))}
                batches.append(self._session.run(None, feed))
        except Exception as error:
            why = f"its faces cannot be classified: {error}"
            raise ImageLost("analysis_failed", why) from error
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    def _try_out(self) -> None:
        """Raise ValueError when it does not take crops and give probabilities."""
        side, widths = self.input_size, self._widths
        [taken], given = self._session.get_inputs(), self._session.get_outputs()
        if (taken.type, taken.shape[1:]) != ("tensor(uint8)", [side, side]):
            raise ValueError(f"it takes {taken.type} {taken.shape}, not crops of {side} pixels")
        if [(out.type, out.shape[1:]) for out in given] != [("tensor(float)", [n]) for n in widths]:
            gives = ", ".join(f"{out.type} {out.shape}" for out in given)
            raise ValueError(
                f"it gives {gives}, not {' and '.join(map(str, widths))} numbers a crop"
            )
        ramp = np.arange(side * side, dtype=np.uint8).reshape(1, side, side)
        probabilities = self.ask(ramp)[0]
        if not (probabilities >= 0).all() or abs(probabilities.sum() - 1) > 1e-3:
            raise ValueError(f"it gives no probabilities but {probabilities.tolist()}")


def _load(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session made from bytes, so that nothing beside the file is read; one serves all threads.

    Without the arena, memory goes back after each call: the largest crowd ever seen costs nothing.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # it raises what it would log
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
