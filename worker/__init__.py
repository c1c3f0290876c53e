"""The emotion worker: pulls images from a server, finds faces and names their emotions."""

__version__ = "0.2.0"
PROGRAM = "emotion-worker"  # as messages and examples call it
