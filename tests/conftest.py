"""What every test needs."""

from hypothesis import settings

import worker.analysis.cropping  # noqa: F401 - before cv2: it sets OpenCV's pixel limit

# A slow machine is no failure: what is quick enough is shown by benchmarks.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
