"""What the networks tell apart: the eight emotions in the order of FER+ (Barsoum et al. 2016), and
faces from what is none."""

EMOTIONS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)

FACE_CLASSES = ("face", "not a face")  # what the detector's second stage tells apart
