"""The reference server: a queue of images and a threshold over HTTP, as a real one could be.

`worker.demo_server.app` needs Flask, `worker.demo_server.redis_queue` a Redis,
`worker.demo_server.sample_images` scikit-image; `worker.demo_server.image_queue` needs nothing.
"""

__all__: list[str] = []
