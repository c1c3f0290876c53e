"""For eyes: what stands in the JSON file, and what is on images, videos and cameras.

All of it is loaded by the command that needs it: `worker.viewing.results` (which records),
`worker.viewing.table` and `worker.viewing.formats` (as lines, JSON, CSV, SQLite),
`worker.viewing.totals` and `worker.viewing.report` (the page), `worker.viewing.thumbnails`,
`worker.viewing.analyze`, `worker.viewing.drawing`, `worker.viewing.video`, `worker.viewing.live`.
"""

__all__: list[str] = []
