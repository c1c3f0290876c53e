"""Faces and emotions of pictures, without a server: `python library.py PICTURE…`"""

import sys

import worker

analyzer = worker.Analyzer()
for path in sys.argv[1:]:
    for face in analyzer.faces(path):
        emotion, probability = max(face.probabilities.items(), key=lambda item: item[1])
        print(f"{path}: {emotion} {probability:.2f} at {face.box.x1},{face.box.y1}")
