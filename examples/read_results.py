"""Reads the worker's JSON file: with TinyDB, and as a table with pandas (if it is installed).
`python read_results.py results.json`"""

import sys

from tinydb import TinyDB, where

images = TinyDB(sys.argv[1], access_mode="r").table("images")
smiling = images.search(where("faces").any(where("happiness") >= 0.8))
print(f"{len(images)} pictures, {len(smiling)} with somebody who is surely happy")

try:
    import pandas
except ModuleNotFoundError:
    sys.exit()
faces = pandas.json_normalize(images.all(), "faces", ["file_name", "processed_at"])
print(faces.describe(include="all"))
