"""From an image's bytes to its faces with emotions: decode, detect, crop, classify. `Analysts` does
it in child processes, which is what the daemon and Celery use.

`worker.analysis.pipeline` (`Pipeline`) does it in this process; `worker.analysis.library`
(`Analyzer`) is that for other people's programs. What it is made of:
`worker.analysis.decoding` (`decode`), `worker.analysis.detection` (`FaceDetector`) with
`worker.analysis.grouping` (`overlaps`) and `worker.analysis.face_net` (`FaceNet`),
`worker.analysis.cropping` (`Picture`, `crop_face`, `resize`), `worker.analysis.classification`
(`Classifier`). `worker.analysis.weights_file` (`Facts`, `read_weights`) and
`worker.analysis.sources` (`find_files`, `read_image`) are light.
"""

from worker.analysis.analysts import Analysts

__all__ = ["Analysts"]
