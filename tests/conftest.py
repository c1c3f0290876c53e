"""What every test needs."""

import worker.preprocessing  # noqa: F401 - before cv2: it sets OpenCV's pixel limit
