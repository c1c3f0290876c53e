"""The results file: a TinyDB that appends in constant time, survives any end, and knows what the
server is still owed. Other rooms use the names below and nothing behind them.

`worker.database.kept_images` (`KeptImages`, `stem`) keeps the images themselves.
"""

from worker.database.database import Database, verify
from worker.database.reader import follow_records, read_records
from worker.database.rotation import Rotation, parse_rotation, rotated_files
from worker.database.told import Known, Owed
from worker.database.verification import posting_states

__all__ = [
    "Database",
    "Known",
    "Owed",
    "Rotation",
    "follow_records",
    "parse_rotation",
    "posting_states",
    "read_records",
    "rotated_files",
    "verify",
]
