"""Sends pictures to a Celery worker (`celery -A worker.celery_app worker`) and prints the records:
`python celery_producer.py BROKER PICTURE…`, e.g. redis://127.0.0.1:6379/0"""

import base64
import json
import sys
from pathlib import Path

from celery import Celery

queue = Celery(broker=sys.argv[1], backend=sys.argv[1])
for picture in map(Path, sys.argv[2:]):
    image = base64.b64encode(picture.read_bytes()).decode()
    sent = queue.send_task("emotion.analyze", [image, 0.35, picture.name])
    print(json.dumps(sent.get(timeout=60)))
